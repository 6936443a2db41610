"""Check whether step 0 of a series is an initialisation."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from joma.measure.scan.ordering import NEARER, UNRELATED, Path
from joma.measure.scan.suspects import Suspect
from joma.saved.series import CheckpointFiles, Series

MOST_SPREAD = 1.3
"""Largest σ₁ at initialisation, relative to independent entries of equal variance; it is 1 up to a few per cent."""

NUM_MATRICES, FEWEST_ROWS, MOST_ROWS = 3, 8, 64
"""Matrices that are looked at, and rows at each end of them where a series is not read whole."""

_LONGEST_NORM = 1 << 15

_NORM = re.compile(r"(norm|ln_\w+|layernorm)\w*\.weight$", re.IGNORECASE)
EMBEDDING = re.compile(r"embed|wte|wpe|lm_head|token", re.IGNORECASE)
"""Names of matrices whose rows are used unevenly."""


def is_continued(path: Path) -> bool:
    """Whether training continues from the first step: its successor is related to it, and no later step is nearer."""
    if len(path.steps) < 3:  # there is no later step to compare with
        return False
    later = min(path.distance(0, place) for place in range(2, len(path.steps)))
    return path.cosine(0, 1) > UNRELATED and later > NEARER * path.distance(0, 1)


def not_initial(
    series: Series, checkpoint: CheckpointFiles, *, at_most: int | None, fine_tuned: bool
) -> Iterator[Suspect]:
    """Find signs of training in step 0: unequal scales of norms, and singular values above the random level.

    Args:
        series: whose step 0 is looked at.
        checkpoint: the contents of step 0.
        at_most: bytes of matrices that may be read, as rows at their ends; ``None`` for whole matrices.
        fine_tuned: whether the next steps continue from step 0, which makes this a warning.

    Raises:
        BadInput, RunFailed: step 0 cannot be read.
    """
    tensors = checkpoint.tensors
    norms = [name for name, place in tensors.items() if len(place.shape) == 1 and _NORM.search(name)]
    matrices = [
        name
        for name, place in tensors.items()
        if place.dtype.is_floating_point and len(place.shape) == 2 and not EMBEDDING.search(name)
    ]
    matrices = matrices[:: max(1, -(-len(matrices) // NUM_MATRICES))]
    found = series.read(0, norms) if at_most is None else series.read_ends(0, norms, _LONGEST_NORM)
    varied = [name for name in norms if name in found and bool((found[name] != found[name][:1]).any())]
    spread = {name: _beyond_chance(_rows(series, checkpoint, name, at_most)) for name in matrices}
    structured = [name for name, ratio in spread.items() if ratio > MOST_SPREAD]
    evidence = []
    if 2 * len(varied) > len(norms):
        name = varied[0]
        low, high = float(found[name].min()), float(found[name].max())
        evidence.append(
            f"the scales of {len(varied)} of {len(norms)} norms are not all equal (those of {name} range from "
            f"{low:.4g} to {high:.4g}; an initialisation sets all to one value)"
        )
    if 2 * len(structured) > len(spread):
        name = max(structured, key=lambda name: spread[name])
        evidence.append(
            f"the largest singular value of {name} is {spread[name]:.2f} times that of independent entries"
            " (1.0 at initialisation)"
        )
    remedy = "start the series at its next step, or look for the real initialisation"
    if evidence and fine_tuned:
        evidence.append("the next steps continue from it, as in fine-tuning")
        remedy = "look for the real initialisation if the model was trained from scratch"
    if evidence:
        severity = "warning" if fine_tuned else "error"
        yield Suspect(0, "not_initialisation", "; ".join(evidence), severity, remedy)


def _rows(series: Series, checkpoint: CheckpointFiles, name: str, at_most: int | None) -> Tensor:
    """Return a matrix of step 0, or the rows at its two ends; none if too few or only all of them could be read."""
    if at_most is None:
        return series.read(0, [name])[name].float()
    place = checkpoint.tensors[name]
    columns = place.shape[1]
    num_rows = min(MOST_ROWS, at_most // (NUM_MATRICES * 2 * max(1, columns * place.dtype.itemsize)))
    found = series.read_ends(0, [name], num_rows * columns) if num_rows >= FEWEST_ROWS else {}
    return found.get(name, torch.zeros(0)).float().view(-1, columns)


def _beyond_chance(matrix: Tensor) -> float:
    """Return a lower bound of σ₁ divided by its limit for independent entries of equal variance."""
    rows, columns = matrix.shape
    by_chance = float(matrix.std()) * (rows**0.5 + columns**0.5) if matrix.numel() > 1 else 0.0
    if not by_chance > 0:
        return 0.0
    vector = torch.ones(columns) + torch.arange(columns) / columns
    for _ in range(30):  # power iteration underestimates σ₁, so that structure is never reported falsely
        vector = matrix.T @ (matrix @ (vector / vector.norm()))
    return float(vector.norm()) ** 0.5 / by_chance
