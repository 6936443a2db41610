"""The result of a scan in words, as terminal tables, charts and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from joma.charts import Chart, Heatmap
from joma.measure.curves.quantities import Quantity, courses, shown_verdicts, verdicts
from joma.measure.curves.recovery import Interval, Recovery
from joma.measure.scan.results import StepResult, probes_of
from joma.measure.scan.scanned import Scan
from joma.measure.scan.verification import Verification
from joma.report.courses import course_pictures, head_pictures, quantities_summary, step_pictures, title_of
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import capitalized, format_bytes, format_number, format_seconds

_MOST_NAMED = 8


def why_no_verdict(scan: Scan) -> str:
    """Return why there is no verdict on recovery; empty if there is one."""
    num, num_suspect = len(scan.judged), len(scan.measured) - len(scan.judged)
    if num >= 4 or not scan.measured:
        return ""
    if not scan.numbered:
        return "no verdict: a fall and a recovery can be seen only over several saved steps, and this is one model"
    which = f" that are not suspect ({num_suspect} are)" if num_suspect else ""
    return f"no verdict: {num} measured step{'' if num == 1 else 's'}{which}; a fall and a recovery need at least 4"


def suspect_note(scan: Scan) -> str:
    """Return which steps are suspect or not measured, and whether curves and verdicts use them; empty for none."""
    suspect, notes = scan.suspect, []
    if suspect:
        steps = f"{_named(suspect)}, which {'is' if len(suspect) == 1 else 'are'} suspect"
        notes.append(f"Includes {steps}." if scan.with_suspects else f"Without {steps}.")
    if scan.failed:
        notes.append(f"Without {_named({result.step: 'not measured' for result in scan.failed})}.")
    return " ".join(notes)


def _named(steps: Mapping[int, str]) -> str:
    """Steps with their problems; many steps as a range."""
    if len(steps) > _MOST_NAMED:
        kinds = dict.fromkeys(kind for problems in steps.values() for kind in problems.split(", "))
        named = f"{len(steps)} steps from {min(steps):,} to {max(steps):,} ({', '.join(kinds)})"
    else:
        *others, last = (f"{step:,} ({kinds})" for step, kinds in steps.items())
        named = f"steps {', '.join(others)} and {last}" if others else f"step {last}"
    return named.replace("_", " ")


def scan_record(scan: Scan) -> dict[str, Any]:
    """Return the scan without the rows of its table, as plain data for strict JSON."""
    return {
        "source": scan.source,
        "settings": scan.settings,
        "text": scan.text or None,
        "steps": list(scan.steps),
        "seconds": round(scan.seconds, 3),
        "bytes_read": sum(result.bytes_read for result in scan.results),
        "bytes_stored": sum(result.bytes_stored for result in scan.results),
        "suspects": [asdict(suspect) for suspect in scan.verification.rows],
        "condemned": {str(step): kinds for step, kinds in scan.verification.condemned.items()},
        "with_suspects": scan.with_suspects,
        "measured": [_step_record(result) for result in scan.measured],
        "failed": [_step_record(result) for result in scan.failed],
        "means": [
            quantity._asdict() | {"step": list(course.steps), "value": course.mean.tolist()}
            for quantity, course in courses(probes_of(scan.measured)).items()
        ],
        "verdicts": [
            quantity._asdict() | asdict(found) for quantity, found in verdicts(probes_of(scan.judged)).items()
        ],
        "why_no_verdict": why_no_verdict(scan) or None,
        "suspect_note": suspect_note(scan) or None,
    }


def scan_table(scan: Scan) -> Group:
    """Return suspects, failed steps and verdicts per layer, for a terminal."""
    parts: list[Any] = []
    if scan.verification.rows:
        parts.append(suspect_table(scan.verification))
    if scan.failed:
        parts.append(_failed_table(scan.failed))
    if found := shown_verdicts(probes_of(scan.judged)):
        parts.append(_verdict_table(found))
        if note := suspect_note(scan):
            parts.append(Text(note, style="yellow"))
        parts.append(Text(interval_note(found), style="dim"))
    elif scan.measured:
        parts += [_level_table(scan)] if levels(scan)[1] else []
    parts += [Text(f"note, step {result.step}: {note}") for result in scan.measured[-1:] for note in result.notes[:3]]
    return Group(*parts)


def suspect_table(verification: Verification) -> Table:
    """Return the suspects found by verification, one row each."""
    names = ("step", "problem", "evidence", "what to do")
    table = table_of(names, left=names[1:], fold=True, title=f"Suspects in {verification.source}")
    for row in verification.rows:
        added, style = ("", "bold red") if row.severity == "error" else (" (warning)", "yellow")
        kind = Text(row.kind.replace("_", " ") + added, style=style)
        table.add_row(f"{row.step:,}", kind, Text(row.evidence), Text(row.remedy))
    return table


def verification_map(found: Verification) -> Heatmap:
    """Return steps by kinds of suspicion: 1 for a warning, 2 for an error, 0 for none."""
    kinds = list(dict.fromkeys(row.kind for row in found.rows)) or ["any"]
    marked = {(row.kind, row.step): 2.0 if row.severity == "error" else 1.0 for row in found.rows}
    return Heatmap(
        "suspects",
        "Suspect steps",
        "0: nothing suspicious; 1: a warning; 2: an error.",
        "step",
        "kind",
        [str(step) for step in found.steps],
        [kind.replace("_", " ") for kind in kinds],
        [[marked.get((kind, step), 0.0) for step in found.steps] for kind in kinds],
        "suspicion",
    )


def verification_summary(found: Verification) -> str:
    """Return the number of suspect steps and of bytes read, in a sentence."""
    num, num_suspect = len(found.steps), len({row.step for row in found.rows})
    what = f"{num_suspect} of {num} steps are suspect" if num_suspect else f"nothing suspicious in {num} steps"
    read = bytes_text(found.bytes_read, found.bytes_stored)
    looked_at = f" ({found.looked_at})" if found.looked_at else ""
    return f"{found.source}: {what.replace(' 1 steps', ' 1 step')}; {read}{looked_at}"


def scan_summary(scan: Scan) -> str:
    """Return the cost of a scan and its verdicts on attention and rank, in two sentences."""
    verdict = quantities_summary(probes_of(scan.judged)) or why_no_verdict(scan)
    return f"{scan.source}: {cost_text(scan)}" + (f". {capitalized(verdict)}" if verdict else "")


def course_charts(scan: Scan) -> list[Chart]:
    """Return charts of each layer over the steps that verdicts use."""
    return course_pictures(probes_of(scan.judged), suspect_note(scan))


def heatmaps(scan: Scan) -> tuple[list[Heatmap], list[Heatmap]]:
    """Return heatmaps of steps by layers, and of layers by heads."""
    if not scan.measured:
        return [], []
    last = scan.last
    suspect = " (suspect)" if last.step in scan.suspect else ""
    when = f", step {last.step}{suspect}" if scan.numbered else ""
    sparsest = scan.sparsest
    kept = probes_of([last] if sparsest is None else sorted({sparsest, last}, key=lambda result: result is last))
    by_head = head_pictures(kept, when, None if sparsest is None else sparsest.step)
    return step_pictures(probes_of(scan.measured), scan.suspect), by_head


def cost_text(scan: Scan) -> str:
    """Return steps measured, bytes read of bytes stored, and time per step, in words."""
    read, stored = (sum(getattr(result, name) for result in scan.results) for name in ("bytes_read", "bytes_stored"))
    took = [result.seconds for result in scan.measured]
    each = f"; {format_seconds(float(np.median(took)))} a step" if took else ""
    what = f"{len(took)} of {len(scan.steps)} steps measured, " if scan.numbered else ""
    return f"{what}{bytes_text(read, stored)}{each}"


def bytes_text(read: int, stored: int) -> str:
    """Return bytes read of bytes stored, in words."""
    share = f" ({read / stored:.1%})" if stored else ""
    return f"{format_bytes(read)} read of {format_bytes(stored)} stored{share}"


def format_share(share: Interval | None) -> str:
    """Return the share of a fall that was recovered, with its interval."""
    if share is None:
        return "–"
    value, low, high = (f"{part:.0%}".replace("-0%", "0%").replace("-", "−") for part in share)
    return f"{value} ({low} to {high})"


def format_level(level: float, steps: tuple[int, int]) -> str:
    """Return a level and the steps that it is the mean over."""
    first, last = steps
    return f"{format_number(level)} ({f'step {first:,}' if first == last else f'steps {first:,} to {last:,}'})"


def interval_note(found: Mapping[Quantity, Recovery]) -> str:
    """Return what levels, shares and intervals of the verdicts mean, for the kinds that occur."""
    groups = {entry.num_groups for entry in found.values()}
    kinds = []
    if max(groups) > 1:
        kinds.append(f"for attention over {max(groups)} groups of probe sequences (variation between texts)")
    if 1 in groups:
        kinds.append("for single curves from the scatter of steps")
    return (
        "Levels are means over stretches of saved steps, and so differ from single points of the charts; what came "
        "back is a share of the fall. The bottom lies between start and end: where a curve still falls, it is above "
        f"the end, and the share is negative. 95 % intervals: {'; '.join(kinds)}. They do not include the variation "
        "between training runs."
    )


def _verdict_table(found: Mapping[Quantity, Recovery]) -> Table:
    names = (
        "layer",
        "metric",
        "level at start",
        "level at bottom",
        "at step",
        "level at end",
        "of the fall",
        "verdict",
    )
    table = table_of(names, left=("metric", "verdict"), fold=True)
    last = ""
    for quantity, entry in found.items():
        if last not in ("", quantity.metric):
            table.add_section()
        last = quantity.metric
        table.add_row(
            str(quantity.layer),
            title_of(quantity.metric, quantity.projection),
            format_number(entry.start),
            format_number(entry.bottom),
            f"{entry.lowest_step:,}",
            format_number(entry.end),
            format_share(entry.share),
            entry.outcome,
        )
    return table


def levels(scan: Scan) -> tuple[list[str], list[list[str]]]:
    """Return the values of each layer at the last step, as column names and rows."""
    values: dict[int, dict[str, str]] = {}
    for quantity, course in courses(probes_of([scan.last])).items():
        if quantity.is_shown:
            name = title_of(quantity.metric, quantity.projection)
            values.setdefault(quantity.layer, {})[name] = format_number(float(course.mean[-1]))
    names = list(dict.fromkeys(name for of_layer in values.values() for name in of_layer))
    rows = [[str(layer), *(values[layer].get(name, "–") for name in names)] for layer in sorted(values)]
    return ["layer", *names], rows


def level_title(scan: Scan) -> str:
    """Return the step of ``levels``, as a title."""
    return f"Step {scan.last.step:,}" + (" (suspect)" if scan.last.step in scan.suspect else "")


def _level_table(scan: Scan) -> Table:
    head, rows = levels(scan)
    table = table_of(head, fold=True, title=level_title(scan) if scan.numbered else None)
    for row in rows:
        table.add_row(*row)
    return table


def _failed_table(failed: Sequence[StepResult]) -> Table:
    names = ("step", "reason", "what to do")
    table = table_of(names, left=names[1:], fold=True, title="Steps that could not be measured")
    for result in failed:
        table.add_row(f"{result.step:,}", Text(result.reason, style="red"), Text(result.remedy))
    return table


def _step_record(result: StepResult) -> dict[str, Any]:
    kept = ("step", "seconds", "bytes_read", "bytes_stored", "reason", "remedy", "notes")
    return {name: value for name in kept if (value := getattr(result, name)) not in ("", ())}
