"""What a scan found, as tables: tidy for whoever goes on from here, short for people, plain data for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from joma.files import replacing
from joma.measure.curves.recovery import Interval, Recovery, recovery
from joma.measure.scan.measures import MEASURES
from joma.measure.scan.results import Row, StepResult
from joma.measure.scan.verification import Suspect, Verification
from joma.report.drawing.words import format_bytes, format_number, format_seconds

if TYPE_CHECKING:
    import pandas

COLUMNS = ("step", *Row._fields, "reason", "suspect")
RECOVERING = (
    "attention_entropy_nats",
    "attention_entropy_normalized",
    "attention_entropy_without_first_nats",
    "stable_rank",
    "effective_rank",
)
"""Measures of which it is asked where they are lowest and whether they come back."""

FIRST_ROLE = "mlp_lower"
"""The projection that the theory speaks of: verdicts on rank are shown for it."""

_MOST_NAMED = 8


@dataclass(frozen=True)
class Scan:
    """A scan that has ended or was interrupted.

    Args:
        source: of the series.
        settings: what was measured and how.
        text: what models read, in a sentence; empty where none did.
        steps: asked for.
        numbered: whether they are steps of a training, or one model alone.
        results: of the steps that were looked at, ascending.
        verification: what looking at the series first found.
        seconds: how long the scan took this time.
        with_suspects: whether curves and verdicts go through steps that verification condemns.
    """

    source: str
    settings: dict[str, Any]
    text: str
    steps: tuple[int, ...]
    numbered: bool
    results: tuple[StepResult, ...]
    verification: Verification
    seconds: float
    with_suspects: bool = False

    @property
    def measured(self) -> tuple[StepResult, ...]:
        """Steps that have numbers."""
        return tuple(result for result in self.results if result.ok)

    @property
    def suspect(self) -> dict[int, str]:
        """Of the measured steps those that verification condemns, with the kinds of what is wrong with them."""
        condemned = self.verification.condemned
        return {result.step: condemned[result.step] for result in self.measured if result.step in condemned}

    @property
    def judged(self) -> tuple[StepResult, ...]:
        """Measured steps that curves and verdicts go through: without suspect ones, unless they are asked for."""
        left_out = {} if self.with_suspects else self.suspect
        return tuple(result for result in self.measured if result.step not in left_out)

    @property
    def failed(self) -> tuple[StepResult, ...]:
        """Steps that have none, each with its reason."""
        return tuple(result for result in self.results if not result.ok)


def measurements(
    results: Iterable[StepResult], condemned: Mapping[int, str] = MappingProxyType({})
) -> pandas.DataFrame:
    """One row per number: step, layer, head, projection, group, measure, value; for a failed step, its reason.

    Layers and heads count from 0; what a measure does not have is null. ``group`` numbers groups of probe sequences.

    Args:
        results: of all steps.
        condemned: by step, what is wrong with it (``Verification.condemned``): the column ``suspect``.
    """
    import pandas

    rows = [
        (result.step, *row, None, None)
        for result in results
        for row in (result.rows if result.ok else [(None, None, None, None, None, float("nan"))])
    ]
    frame = pandas.DataFrame(rows, columns=pandas.Index(COLUMNS))
    reasons = {result.step: result.reason for result in results if not result.ok}
    for name, said in (("reason", reasons), ("suspect", dict(condemned))):
        frame[name] = frame["step"].map(said).astype("string")
    kinds = {"step": "int64", **dict.fromkeys(("layer", "head", "group"), "Int32"), "value": "float64"}
    return frame.astype(kinds | dict.fromkeys(("projection", "measure"), "string"))


def write_measurements(scan: Scan, path: Path) -> Path:
    """Write ``measurements.parquet``, whole or not at all; suspect steps are in it, and said to be suspect."""
    with replacing(path) as temporary:
        frame = measurements(scan.results, scan.verification.condemned)
        frame.to_parquet(temporary, index=False, compression="zstd")
    return path


@dataclass(frozen=True, eq=False)
class Course:
    """One measure of one layer over the steps.

    Args:
        measure, layer, projection: which.
        steps: where it was measured.
        values: (groups, steps), the mean over heads for attention, the whole projection for weights.
    """

    measure: str
    layer: int
    projection: str | None
    steps: tuple[int, ...]
    values: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Over groups, (steps,)."""
        return self.values.mean(axis=0)


def courses(results: Sequence[StepResult]) -> list[Course]:
    """Every measure of every layer over the steps that have it, ordered by measure, projection and layer."""
    sums: dict[tuple[str, str, int], dict[int, dict[int, list[float]]]] = {}
    for result in results:
        for row in result.rows:
            if row.layer is None or (row.projection is not None and row.head is not None):
                continue
            by_step = sums.setdefault((row.measure, row.projection or "", row.layer), {})
            by_step.setdefault(result.step, {}).setdefault(row.group or 0, []).append(row.value)
    order = {name: place for place, name in enumerate(MEASURES)}
    found = []
    for (measure, projection, layer), by_step in sorted(sums.items(), key=lambda item: (order[item[0][0]], item[0])):
        steps = tuple(sorted(by_step))
        values = [[float(np.mean(by_step[step][group])) for step in steps] for group in sorted(by_step[steps[0]])]
        found.append(Course(measure, layer, projection or None, steps, np.array(values)))
    return found


def verdicts(results: Sequence[StepResult]) -> list[tuple[Course, Recovery]]:
    """Where each layer was sparsest or of lowest rank, and whether it recovered; none for fewer than four steps."""
    asked = [course for course in courses(results) if course.measure in RECOVERING]
    return [(course, found) for course in asked if (found := recovery(course.steps, course.values)) is not None]


def shown_verdicts(results: Sequence[StepResult]) -> list[tuple[Course, Recovery]]:
    """Those that people are shown: entropy, and the rank that the theory speaks of; all are in ``scan.json``."""
    shown = ("attention_entropy_nats", "stable_rank")
    return [
        (course, found)
        for course, found in verdicts(results)
        if course.measure in shown and course.projection in (None, FIRST_ROLE)
    ]


def why_no_verdict(scan: Scan) -> str:
    """Why nothing is said of recovery; empty where something is."""
    num, num_suspect = len(scan.judged), len(scan.measured) - len(scan.judged)
    if num >= 4 or not scan.measured:
        return ""
    if not scan.numbered:
        return "no verdict: this is one model, and whether attention or rank come back shows only over saved steps"
    which = f" and not suspect ({num_suspect} more are)" if num_suspect else ""
    return f"no verdict: {num} measured step{'' if num == 1 else 's'}{which}, and a fall and a rise need at least 4"


def suspect_note(scan: Scan) -> str:
    """Which steps curves and verdicts go without, suspect or not measured, or with if so asked; empty for none."""
    suspect, said = scan.suspect, []
    if suspect and scan.with_suspects:
        are = "it is" if len(suspect) == 1 else "they are"
        said.append(f"With {_named(suspect)}, suspect as {are} (--with-suspects).")
    elif suspect:
        said.append(f"Without {_named(suspect)}, which {'is' if len(suspect) == 1 else 'are'} suspect.")
    if scan.failed:
        said.append(f"Without {_named({result.step: 'not measured' for result in scan.failed})}.")
    return " ".join(said)


def _named(steps: Mapping[int, str]) -> str:
    """Steps with what is wrong with each; many of them by their ends."""
    if len(steps) > _MOST_NAMED:
        kinds = dict.fromkeys(kind for said in steps.values() for kind in said.split(", "))
        named = f"{len(steps)} steps from {min(steps):,} to {max(steps):,} ({', '.join(kinds)})"
    else:
        *others, last = (f"{step:,} ({kinds})" for step, kinds in steps.items())
        named = f"steps {', '.join(others)} and {last}" if others else f"step {last}"
    return named.replace("_", " ")


def scan_record(scan: Scan) -> dict[str, Any]:
    """Everything but the rows of the table, as plain data that survives strict JSON."""
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
        "means": _means(scan.measured),
        "verdicts": [
            {"measure": course.measure, "layer": course.layer, "projection": course.projection, **asdict(found)}
            for course, found in verdicts(scan.judged)
        ],
        "why_no_verdict": why_no_verdict(scan) or None,
        "suspect_note": suspect_note(scan) or None,
    }


def scan_table(scan: Scan) -> Group:
    """Suspects first, then steps that failed, verdicts per layer, and what it cost."""
    parts: list[Any] = []
    if scan.verification.rows:
        parts.append(suspect_table(scan.verification))
    if scan.failed:
        parts.append(_failed_table(scan.failed))
    if found := shown_verdicts(scan.judged):
        parts.append(_verdict_table(found))
        parts += [Text(note, style="yellow") for note in (suspect_note(scan),) if note]
        parts.append(Text(interval_note(found), style="dim"))
    elif scan.measured:
        parts += [_level_table(scan)] if levels(scan)[1] else []
        parts.append(Text(why_no_verdict(scan)))
    parts += [Text(f"note, step {result.step}: {note}") for result in scan.measured[-1:] for note in result.notes[:3]]
    parts.append(Text(cost_text(scan)))
    return Group(*parts)


def suspect_table(verification: Verification) -> Table:
    """What looking at the series found, one row per suspect."""
    table = Table(title=f"Suspects in {verification.source}", title_justify="left")
    for name in ("step", "what", "evidence", "what to do"):
        table.add_column(name, justify="right" if name == "step" else "left", overflow="fold")
    for row in verification.rows:
        kind = row.kind.replace("_", " ") + ("" if row.severity == "error" else " (warning)")
        table.add_row(f"{row.step:,}", Text(kind, style=_style_of(row)), Text(row.evidence), Text(row.remedy))
    return table


def cost_text(scan: Scan) -> str:
    """Bytes read against bytes stored, and time per step, in a sentence."""
    read, stored = (sum(getattr(result, name) for result in scan.results) for name in ("bytes_read", "bytes_stored"))
    took = [result.seconds for result in scan.measured]
    each = f"; {format_seconds(float(np.median(took)))} a step" if took else ""
    what = f"{len(took)} of {len(scan.steps)} steps measured, " if scan.numbered else ""
    return f"{what}{bytes_text(read, stored)}{each}"


def bytes_text(read: int, stored: int) -> str:
    """Bytes read against bytes stored, in words."""
    share = f" ({read / stored:.1%})" if stored else ""
    return f"{format_bytes(read)} read of {format_bytes(stored)} stored{share}"


def format_share(share: Interval | None) -> str:
    """How much came back, with its interval."""
    if share is None:
        return "–"
    value, low, high = (f"{part:.0%}".replace("-", "−") for part in share)
    return f"{value} ({low} to {high})"


def interval_note(found: Sequence[tuple[Course, Recovery]]) -> str:
    """What the intervals mean, for the kinds that occur."""
    groups = {entry.num_groups for _, entry in found if entry.num_groups > 1}
    said = []
    if groups:
        said.append(f"of attention, over {max(groups)} groups of probe sequences: what another text would have given")
    if any(entry.num_groups == 1 for _, entry in found):
        said.append("of one curve: what the scatter of single steps may do to its levels")
    return f"Intervals are of 95 %: {'; '.join(said)}. Neither says what another training run would do."


def title_of(course: Course) -> str:
    """Measure and projection in words."""
    words = MEASURES[course.measure].meaning
    return words if course.projection is None else f"{words} of {course.projection}"


def _verdict_table(found: Sequence[tuple[Course, Recovery]]) -> Table:
    table = Table()
    table.add_column("layer", justify="right")
    table.add_column("measure")
    for name in ("at the start", "lowest", "at step", "at the end", "came back"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("verdict")
    last = ""
    for course, entry in found:
        if last not in ("", course.measure):
            table.add_section()
        last = course.measure
        levels = [format_number(level) for level in (entry.start, entry.bottom)]
        table.add_row(
            str(course.layer),
            title_of(course),
            *levels,
            f"{entry.lowest_step:,}",
            format_number(entry.end),
            format_share(entry.share),
            entry.outcome,
        )
    return table


def levels(scan: Scan) -> tuple[list[str], list[list[str]]]:
    """Each layer at the step of ``last_result``, as columns and rows: what one model or a short series has to say."""
    shown = [course for course in courses([last_result(scan)]) if course.projection in (None, FIRST_ROLE)]
    names = list(dict.fromkeys(title_of(course) for course in shown))
    values = {(course.layer, title_of(course)): format_number(float(course.mean[-1])) for course in shown}
    rows = [[str(layer), *(values.get((layer, name), "–") for name in names)] for layer in _layers(shown)]
    return ["layer", *names], rows


def last_result(scan: Scan) -> StepResult:
    """The last measured step, a suspect one only where there is no other."""
    return (scan.judged or scan.measured)[-1]


def level_title(scan: Scan) -> str:
    """Of which step ``levels`` are."""
    step = last_result(scan).step
    return f"Step {step:,}" + (" (suspect)" if step in scan.suspect else "")


def _layers(found: Iterable[Course]) -> list[int]:
    return sorted({course.layer for course in found})


def _level_table(scan: Scan) -> Table:
    head, rows = levels(scan)
    table = Table(title=level_title(scan) if scan.numbered else None, title_justify="left")
    for name in head:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _failed_table(failed: Sequence[StepResult]) -> Table:
    table = Table(title="Steps that could not be measured", title_justify="left")
    for name in ("step", "why", "what to do"):
        table.add_column(name, justify="right" if name == "step" else "left", overflow="fold")
    for result in failed:
        table.add_row(f"{result.step:,}", Text(result.reason, style="red"), Text(result.remedy))
    return table


def _step_record(result: StepResult) -> dict[str, Any]:
    kept = ("step", "seconds", "bytes_read", "bytes_stored", "reason", "remedy", "notes")
    return {name: value for name in kept if (value := getattr(result, name)) not in ("", ())}


def _means(measured: Sequence[StepResult]) -> list[dict[str, Any]]:
    return [
        {
            "measure": course.measure,
            "layer": course.layer,
            "projection": course.projection,
            "step": list(course.steps),
            "value": course.mean.tolist(),
        }
        for course in courses(measured)
    ]


def _style_of(row: Suspect) -> str:
    return "bold red" if row.severity == "error" else "yellow"
