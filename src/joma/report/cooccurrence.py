"""How often two tokens come together, by the height of their nearest common ancestor: exact, predicted and counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from joma.charts import Chart, Curve
from joma.problem.laws import NO_ANCESTOR, Hierarchy
from joma.problem.tree import LatentTree, digest
from joma.report.drawing.tables import table_of
from joma.report.samples import law_text

if TYPE_CHECKING:
    from joma.simulate.cooccurrence import Cooccurrence

_SAME = 1e-9  # values of pairs that differ by less differ by rounding


def cooccurrence_record(law: Hierarchy, found: Sequence[Cooccurrence], num_samples: int, seed: int) -> dict[str, Any]:
    """Plain data that survives strict JSON."""
    return {
        "law": law.to_json(),
        "digest": digest(law),
        "num_samples": num_samples,
        "seed": seed,
        "pairs": [asdict(row) for row in found],
    }


def cooccurrence_table(law: Hierarchy, found: Sequence[Cooccurrence], num_samples: int) -> Group:
    """One row for each label and height; columns that would be empty are left out."""
    columns = {
        "common\nancestor": [_height_text(law, row.height) for row in found],
        "pairs": [f"{row.num_pairs:,}" for row in found],
        "exact": [_cell(row.exact) for row in found],
        "lowest – highest": [f"{_cell(row.lowest)} – {_cell(row.highest)}" if _spreads(row) else "" for row in found],
        "Theorem 5": [_cell(row.closed) for row in found],
        "simulated": [
            "–" if row.simulated is None else f"{_cell(row.simulated)} ± {_cell(row.standard_error)}" for row in found
        ],
    }
    shown = {name: cells for name, cells in columns.items() if name == "simulated" or not {"–", ""}.issuperset(cells)}
    table = table_of(("label", *shown), left=("label",))
    for place, (row, *cells) in enumerate(zip(found, *shown.values(), strict=True)):
        is_first = place == 0 or row.label != found[place - 1].label
        if is_first:
            table.add_section()
        table.add_row(_label_text(law, row.label) if is_first else "", *cells)
    return Group(Text(law_text(law)), table, Text(_caption(law, found, num_samples)))


def cooccurrence_summary(found: Sequence[Cooccurrence]) -> str:
    """How often tokens come together in the nearest and in the farthest pairs, in a sentence."""
    rows = [row for row in found if row.label == found[-1].label and row.simulated is not None]
    if not rows:
        return "No pair of tokens was ever present"
    rows.sort(key=lambda row: math.inf if row.height == NO_ANCESTOR else row.height)
    given = "over all labels" if rows[0].label is None else f"given label {rows[0].label}"
    off = [abs(row.simulated - row.exact) for row in found if row.simulated is not None and row.exact is not None]
    check = f"; counted and exact values differ by at most {max(off):.4f}" if off else ""
    return (
        f"P(token present | another one present), {given}: {_cell(rows[0].simulated)} for the nearest pairs in the "
        f"hierarchy, {_cell(rows[-1].simulated)} for the farthest{check}"
    )


def cooccurrence_chart(law: Hierarchy, found: Sequence[Cooccurrence]) -> Chart:
    """The curves over the height of the common ancestor, one pair of them for each label."""
    curves = []
    for label in dict.fromkeys(row.label for row in found):
        group = _label_text(law, label)
        exact = [(row.height, row.exact) for row in found if row.label == label and row.exact is not None]
        seen = [
            (row.height, row.simulated, 1.96 * (row.standard_error or 0.0))
            for row in found
            if row.label == label and row.simulated is not None
        ]
        if exact:
            heights, shares = zip(*exact, strict=True)
            curves.append(Curve(f"{group}, exact", heights, shares, role="predicted", group=group))
        if seen:
            heights, shares, half = zip(*seen, strict=True)
            low, high = ([s + sign * h for s, h in zip(shares, half, strict=True)] for sign in (-1, 1))
            curves.append(Curve(f"{group}, simulated", heights, shares, low, high, group=group))
    return Chart(
        "cooccurrence",
        "Tokens come together, by their common ancestor",
        f"{law_text(law)}. The band is the 95 % interval of the simulated share.",
        "levels up to the nearest common ancestor"
        + (" (0: none)" if any(row.height == NO_ANCESTOR for row in found) else ""),
        "P(token there | other token there)",
        tuple(curves),
    )


def _caption(law: Hierarchy, found: Sequence[Cooccurrence], num_samples: int) -> str:
    caption = (
        f"P(token there | another one there), mean over the pairs; simulated: {num_samples:,} samples for each label, "
        "± standard error."
    )
    is_tree = isinstance(law, LatentTree)
    if any(row.exact is None for row in found):
        caption += f" {'A token that is never there' if is_tree else 'A law with random sets'} has no exact value here."
    if is_tree and all(row.closed is None for row in found):
        caption += " Theorem 5 needs a given label of one sign and one polarity for all edges below the top."
    return caption


def _spreads(row: Cooccurrence) -> bool:
    return row.lowest is not None and row.highest is not None and row.highest - row.lowest > _SAME


def _label_text(law: Hierarchy, label: int | None) -> str:
    if label is None:
        return "any"
    signs = set(law.label_signs[label]) if isinstance(law, LatentTree) else set()
    if len(signs) == 1:
        return f"{label} ({'+1' if signs.pop() > 0 else '−1'})"
    return str(label)


def _height_text(law: Hierarchy, height: int) -> str:
    if height == NO_ANCESTOR:
        return "none"
    return "label" if height == len(law.level_sizes) + 1 else f"level {height - 1}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
