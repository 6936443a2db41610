"""Measure the spectra of a projection, per head and as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from joma.measure.models.projections import Projection
from joma.measure.spectra.grams import Gram, effective_rank_of, spectral_norm_of, stable_rank_of
from joma.measure.spectra.spectrum import effective_rank, spectral_norm, stable_rank
from joma.records import Row

SPECTRA: Mapping[str, Callable[[Tensor], Tensor]] = {
    "stable_rank": stable_rank,
    "spectral_norm": lambda weight: spectral_norm(weight).value,
    "effective_rank": effective_rank,
}
"""The function of each metric of weights."""


_OF_GRAMS: Mapping[str, Callable[[Gram], Tensor]] = {
    "stable_rank": lambda gram: stable_rank_of(gram).value,
    "spectral_norm": lambda gram: spectral_norm_of(gram).value,
    "effective_rank": effective_rank_of,
}


def gram_rows(part: Projection, gram: Gram, metrics: Sequence[str]) -> Iterator[Row]:
    """Yield what ``spectral_rows`` does, for a projection without heads, from its Gram matrix."""
    for metric in metrics:
        yield Row(part.layer, None, part.role, metric, float(_OF_GRAMS[metric](gram)), part.part)


def spectral_rows(part: Projection, matrices: Tensor, metrics: Sequence[str]) -> Iterator[Row]:
    """Measure one projection.

    Args:
        part: the projection, of stacked experts one of its ``pieces``.
        matrices: its weights, as ``Projection.of`` or ``Projection.pieces`` returns them.
        metrics: of ``SPECTRA``.

    Yields:
        For each metric one row per head, if there are heads, and one for the whole projection.

    Raises:
        InvalidArgument: a matrix for which a metric is undefined (zeros, NaN).
    """
    for metric in metrics:
        value, of_whole = SPECTRA[metric], matrices
        if matrices.dim() == 3:
            for head, number in enumerate(value(matrices).tolist()):
                yield Row(part.layer, head, part.role, metric, number)
            of_whole = part.joined(matrices)
        yield Row(part.layer, None, part.role, metric, float(value(of_whole)), part.part)
