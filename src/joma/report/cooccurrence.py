"""How often two tokens come together, by the height of their nearest common ancestor: exact, predicted, counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.console import Group
from rich.table import Table
from rich.text import Text

from joma.charts import Chart, Curve
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.tree import LatentTree, digest
from joma.report.samples import law_text, token_presence
from joma.theory.hierarchy import cooccurrence, token_cooccurrence

_BATCH = 20_000
_SAME = 1e-9  # values of pairs that differ by less differ by rounding
APART = 0
"""The height of pairs that no label has in common."""


@dataclass(frozen=True)
class Together:
    """Ordered pairs of different tokens (l, m) whose nearest common ancestor is equally high, under one label.

    Args:
        label: which, ``None`` for the average over labels.
        height: levels above the tokens; 0 where the two have no common ancestor.
        num_pairs: how many, of tokens m that are there at times.
        exact: mean over the pairs of P(l there | m there); ``None`` where only samples can tell.
        lowest, highest: over the pairs.
        closed: Theorem 5's formula; ``None`` where it does not apply.
        simulated: the same mean, counted; ``None`` where no m was ever there.
        standard_error: of ``simulated``.
    """

    label: int | None
    height: int
    num_pairs: int
    exact: float | None
    lowest: float | None
    highest: float | None
    closed: float | None
    simulated: float | None
    standard_error: float | None


def common_heights(law: LatentTree | Combinatorial) -> Int[torch.Tensor, "V V"]:
    """For every two tokens, how many levels up their nearest common ancestor is; −1 for a token with itself.

    The label is the highest ancestor. 0: they have none, and never come together.
    """
    heights = torch.zeros(law.num_tokens, law.num_tokens, dtype=torch.long)
    reach = _reach(law)
    for height in range(len(reach), 0, -1):
        under = reach[height - 1].double()
        heights[(under.T @ under) > 0] = height
    return heights.fill_diagonal_(-1)


def together(
    law: LatentTree | Combinatorial,
    labels: Sequence[int | None],
    num_samples: int,
    seed: int,
    progress: Callable[[float, float], None],
) -> list[Together]:
    """Pairs by label and height: exact where the law allows it, beside counts of samples.

    Args:
        law: what tokens come from.
        labels: given which labels; ``None`` for the average over them.
        num_samples: to count, for each entry of ``labels``.
        seed: of the samples.
        progress: told (done, all).
    """
    heights = common_heights(law)
    found = []
    for place, label in enumerate(labels):

        def tell(done: float, place: int = place) -> None:
            progress(place * num_samples + done, len(labels) * num_samples)

        there = _drawn(law, label, num_samples, seed, tell)
        exact = _exact(law, label)
        there_are = sorted(set(heights[heights >= 0].tolist()))
        found += [_row(law, label, height, heights == height, exact, there) for height in there_are]
    return found


def cooccurrence_record(
    law: LatentTree | Combinatorial, found: Sequence[Together], num_samples: int, seed: int
) -> dict[str, Any]:
    """Plain data that survives strict JSON."""
    return {
        "law": law.to_json(),
        "digest": digest(law),
        "num_samples": num_samples,
        "seed": seed,
        "pairs": [asdict(row) for row in found],
    }


def cooccurrence_table(law: LatentTree | Combinatorial, found: Sequence[Together], num_samples: int) -> Group:
    """One row for each label and height; columns that would be empty are left out."""
    has_exact, has_closed = (any(getattr(row, name) is not None for row in found) for name in ("exact", "closed"))
    has_spread = any(_spreads(row) for row in found)
    table = Table()
    table.add_column("label", no_wrap=True)
    for name, is_there in (
        ("common\nancestor", True),
        ("pairs", True),
        ("exact", has_exact),
        ("lowest – highest", has_spread),
        ("Theorem 5", has_closed),
        ("simulated", True),
    ):
        if is_there:
            table.add_column(name, justify="right", no_wrap=True)
    for place, row in enumerate(found):
        label = _label_text(law, row.label)
        is_first = place == 0 or row.label != found[place - 1].label
        is_last = place == len(found) - 1 or row.label != found[place + 1].label
        optional = (
            (has_exact, _cell(row.exact)),
            (has_spread, f"{_cell(row.lowest)} – {_cell(row.highest)}" if _spreads(row) else ""),
            (has_closed, _cell(row.closed)),
        )
        table.add_row(
            label if is_first else "",
            _height_text(law, row.height),
            f"{row.num_pairs:,}",
            *(cell for is_there, cell in optional if is_there),
            "–" if row.simulated is None else f"{_cell(row.simulated)} ± {_cell(row.standard_error)}",
            end_section=is_last,
        )
    return Group(Text(law_text(law)), table, Text(_caption(law, found, num_samples)))


def cooccurrence_chart(law: LatentTree | Combinatorial, found: Sequence[Together]) -> Chart:
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
        + (" (0: none)" if any(row.height == APART for row in found) else ""),
        "P(token there | other token there)",
        tuple(curves),
    )


def _reach(law: LatentTree | Combinatorial) -> list[torch.Tensor]:
    """For each level and the labels, (n, V): which tokens are below each node."""
    below = torch.eye(law.num_tokens, dtype=torch.bool)
    reach = []
    if isinstance(law, LatentTree):
        for depth in range(len(law.levels) - 1, 0, -1):
            place = {node: idx for idx, node in enumerate(law.levels[depth - 1])}
            above = torch.zeros(len(place), law.num_tokens, dtype=torch.bool)
            for idx, node in enumerate(law.levels[depth]):
                above[place[law.parents[node]]] |= below[idx]
            reach.append(above)
            below = above
        return reach
    for level in law.members:
        members = [sorted({child for chosen in latent for child in chosen}) for latent in level]
        below = torch.stack([below[children].any(0) for children in members])
        reach.append(below)
    return reach


def _drawn(
    law: LatentTree | Combinatorial, label: int | None, num: int, seed: int, tell: Callable[[float], None]
) -> Float[torch.Tensor, "B V"]:
    generator, parts = torch.Generator().manual_seed(seed), []
    for start in range(0, num, _BATCH):
        size = min(_BATCH, num - start)
        labels = None if label is None else torch.full((size,), label)
        parts.append(token_presence(law, law.sample(size, generator, labels).tokens))
        tell(start + size)
    return torch.cat(parts).float()


def _exact(law: LatentTree | Combinatorial, label: int | None) -> Float[torch.Tensor, "V V"] | None:
    """P(l | m), NaN for an m that is never there; nothing where it would take a sum over too many cases."""
    if isinstance(law, LatentTree):
        try:
            return token_cooccurrence(law, label)
        except InvalidArgument:  # a token that is never there leaves no number to give
            return None
    if not law.is_table:
        return None
    labels = torch.arange(law.num_labels) if label is None else torch.tensor([label])
    there = token_presence(law, law.sample(len(labels), torch.Generator(), labels).tokens).double()
    even = [1 / law.num_labels] * law.num_labels
    weights = torch.tensor(law.label_probabilities or even, dtype=torch.float64)[labels]
    both = there.T @ (weights[:, None] * there)
    return both / both.diagonal()


def _row(
    law: LatentTree | Combinatorial,
    label: int | None,
    height: int,
    chosen: torch.Tensor,
    exact: torch.Tensor | None,
    there: torch.Tensor,
) -> Together:
    counts = there.sum(0).double()
    chosen = chosen & (counts > 0 if exact is None else exact.diagonal() > 0)
    values = None if exact is None or not chosen.any() else exact[chosen]
    simulated, error = _counted(there, chosen & (counts > 0))
    return Together(
        label,
        height,
        int(chosen.sum()),
        None if values is None else float(values.mean()),
        None if values is None else float(values.min()),
        None if values is None else float(values.max()),
        _closed(law, label, height),
        simulated,
        error,
    )


def _counted(there: Float[torch.Tensor, "B V"], chosen: torch.Tensor) -> tuple[float | None, float | None]:
    """The mean over pairs of N(l, m)/N(m), with its standard error to first order in the counts."""
    num_pairs = int(chosen.sum())
    if not num_pairs:
        return None, None
    counts = there.sum(0).double()
    share = (there.T @ there).double() / counts.clamp_min(1)  # (l, m)
    pairs = chosen.double()
    # Each sample moves the mean by Σ (x_l x_m − share x_m)/N(m) over the pairs: the sum of squares is the variance.
    per_token = ((there @ pairs.float()).double() - (pairs * share).sum(0)) * there / counts.clamp_min(1)
    moved = per_token.sum(-1) / num_pairs
    return float((pairs * share).sum()) / num_pairs, math.sqrt(float(moved.square().sum()))


def _closed(law: LatentTree | Combinatorial, label: int | None, height: int) -> float | None:
    """Theorem 5: one polarity below the top, one from the label, and a label whose signs are all alike."""
    if not isinstance(law, LatentTree) or label is None or height < 1:
        return None
    signs = set(law.label_signs[label])
    top = {law.polarities[node] for node in law.levels[1]}
    below = {law.polarities[node] for level in law.levels[2:] for node in level} or {1.0}
    if len(signs) > 1 or len(top) > 1 or len(below) > 1:
        return None
    try:
        return float(cooccurrence(below.pop(), top.pop(), len(law.levels) - 1, height, signs.pop()))
    except InvalidArgument:  # the given token can never be there
        return None


def _caption(law: LatentTree | Combinatorial, found: Sequence[Together], num_samples: int) -> str:
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


def _spreads(row: Together) -> bool:
    return row.lowest is not None and row.highest is not None and row.highest - row.lowest > _SAME


def _label_text(law: LatentTree | Combinatorial, label: int | None) -> str:
    if label is None:
        return "any"
    signs = set(law.label_signs[label]) if isinstance(law, LatentTree) else set()
    if len(signs) == 1:
        return f"{label} ({'+1' if signs.pop() > 0 else '−1'})"
    return str(label)


def _height_text(law: LatentTree | Combinatorial, height: int) -> str:
    if height == APART:
        return "none"
    return "label" if height == len(law.level_sizes) + 1 else f"level {height - 1}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
