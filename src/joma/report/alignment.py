"""How well a run's hidden units stand for the latents of its law, compared with the same network before training."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from joma.problem.laws import hierarchy_of
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, digest
from joma.report.drawing.hierarchies import Found, Level
from joma.report.drawing.rows import rows_of
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_number
from joma.report.samples import law_text

if TYPE_CHECKING:
    from joma.measure.latents.alignment import Matching
    from joma.train.latents import Aligned, Matrix

_WAYS = (
    ("best", "best unit"),
    ("one_to_one", "one to one"),
    ("in_sample", "as paper"),
)


def alignment_record(found: Aligned) -> dict[str, Any]:
    """Plain data that survives strict JSON."""
    return {
        "run": str(found.run.folder),
        "law": found.law.to_json(),
        "digest": digest(found.law),
        "step": found.step,
        "accuracy": found.accuracy,
        "num_samples": found.num_samples,
        "seed": found.seed,
        "own_layers": [{"level": level, "layer": layer} for level, layer in found.own_layers],
        "trained": [[cell.to_json() for cell in row] for row in found.trained],
        "untrained": [[cell.to_json() for cell in row] for row in found.untrained],
    }


def alignment_tables(found: Aligned) -> Group:
    """Each level with its own layer, and what shuffled latents score; then every layer with every level."""
    head = (
        f"{law_text(found.law)}\n{found.run.folder.name}, step {found.step:,}: accuracy {found.accuracy:.4f} "
        f"on {found.num_samples:,} fresh samples"
    )
    foot = (
        "Correlation of hidden units with latents, mean over a level. Best unit, one to one: chosen on one half of the "
        "samples, scored on the other; as paper: on the same. Before: the untrained network. Shuffled: the latents "
        "across samples. Corrected: (score − shuffled)/(1 − shuffled); 0 is luck, 1 is perfect. p: of reaching the "
        "trained network's score by shuffling."
    )
    missing = f"\nNo score: {_missing(found)}." if _missing(found) else ""
    return Group(
        Text(head),
        _own_table(found),
        Text(f"{foot}{missing}\n"),
        Text("Best unit, corrected (before)"),
        _matrix_table(found),
    )


def conclusion(found: Aligned) -> str:
    """What training has added, in a sentence: scores far above shuffled latents may have been there before it."""
    parts = []
    for level, layer in found.own_layers:
        now, then = (matrix[layer][level].best.latents for matrix in (found.trained, found.untrained))
        scores = [(a.score, b.score) for a, b in zip(now, then, strict=True)]
        both = [(after, before) for after, before in scores if after is not None and before is not None]
        parts.append(f"{sum(after > before for after, before in both)} of {len(both)} at level {level}")
    return f"Latents with a better unit than before training: {', '.join(parts) or 'none, for no level has a layer'}."


def found_picture(found: Aligned) -> Found:
    """The tree with its latents coloured, for ``write_found``."""
    levels, before, rows = [], [], rows_of(found.law)
    for level, nodes in enumerate(rows.places[1:-1]):
        if (level, level) not in found.own_layers:
            levels.append(Level(f"level {level} · no layer", "", [None] * len(nodes)))
            before.append([None] * len(nodes))
            continue
        now, then = (matrix[level][level].best for matrix in (found.trained, found.untrained))
        detail = f"{_share(now.corrected)}, before: {_share(then.corrected)}"
        levels.append(Level(f"level {level} · layer {level}", detail, _by_node(now, len(nodes))))
        before.append(_by_node(then, len(nodes)))
    num = found.law.num_labels
    means = "; mean over a place's symbols" if isinstance(hierarchy_of(found.law), RandomHierarchy) else ""
    return Found(
        rows,
        f"label, {num} values" if isinstance(hierarchy_of(found.law), LatentTree) else f"{num} classes",
        levels,
        before,
        {"After training": _corrected(found.trained), "Before": _corrected(found.untrained)},
        "How well hidden units found the latents",
        f"Step {found.step:,}, accuracy {found.accuracy:.3f}. Colour: correlation of each latent with its best unit in "
        f"the level's own layer, on other samples than it was chosen on, corrected for chance{means}.\n"
        f"{conclusion(found)}",
        _missing(found),
    )


def _by_node(matching: Matching, num: int) -> list[float | None]:
    """The score of each node: that of its latent, or the mean over a place's symbols that have one."""
    scores = [match.corrected for match in matching.latents]
    size = len(scores) // num
    parts = [[one for one in scores[start : start + size] if one is not None] for start in range(0, len(scores), size)]
    return [sum(part) / len(part) if part else None for part in parts]


def _own_table(found: Aligned) -> Table:
    names = ("latents", "score", "trained", "before", "shuf-\nfled", "corrected\n(before)", "p")
    table = table_of(names, left=names[:2])
    for level, layer in found.own_layers:
        for place, (way, name) in enumerate(_WAYS):
            now, then = (getattr(matrix[layer][level], way) for matrix in (found.trained, found.untrained))
            where = (f"level {level}", f"in layer {layer}", "")[place]
            corrected = f"{_share(now.corrected)} ({_share(then.corrected)})"
            p_value = "–" if now.p_value is None else format_number(now.p_value, 2)
            cells = [_share(value) for value in (now.mean, then.mean, now.chance)]
            table.add_row(where, name, *cells, corrected, p_value, end_section=place == len(_WAYS) - 1)
    return table


def _matrix_table(found: Aligned) -> Table:
    levels = [f"level {level}" for level in range(len(found.law.level_sizes))]
    table = table_of(("", *levels), left=("",))
    for layer in reversed(range(len(found.trained))):
        pairs = zip(found.trained[layer], found.untrained[layer], strict=True)
        cells = [f"{_share(now.best.corrected)} ({_share(then.best.corrected)})" for now, then in pairs]
        table.add_row(f"layer {layer}", *cells)
    return table


def _share(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.3f}".replace("-", "−")
    return "0.000" if text == "−0.000" else text


def _corrected(matrix: Matrix) -> list[list[float | None]]:
    return [[cell.best.corrected for cell in row] for row in matrix]


def _missing(found: Aligned) -> str:
    """Why latents have no score, with how many of them."""
    matches = [match for level, layer in found.own_layers for match in found.trained[layer][level].best.latents]
    reasons = Counter(match.reason or "shuffled latents score 1" for match in matches if match.corrected is None)
    without = sum(found.law.level_sizes[len(found.trained) :])
    if without:
        reasons["the network has no layer for the level"] = without
    return "; ".join(f"{reason} ({num})" for reason, num in reasons.items())
