"""Numbers of weights, as rows: the spectra of a projection, of each of its heads and as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from joma.measure.models.projections import Projection
from joma.measure.spectra.spectrum import effective_rank, spectral_norm, stable_rank
from joma.records import Row

SPECTRA: Mapping[str, Callable[[Tensor], Tensor]] = {
    "stable_rank": stable_rank,
    "spectral_norm": lambda weight: spectral_norm(weight).value,
    "effective_rank": effective_rank,
}
"""What is measured for each metric of weights."""


def spectral_rows(part: Projection, matrices: Tensor, metrics: Sequence[str]) -> Iterator[Row]:
    """Measure one projection.

    Args:
        part: which.
        matrices: it, as ``Projection.of`` takes it out of its tensor.
        metrics: of ``SPECTRA``.

    Yields:
        One row for each head and metric where there are heads, and one for the whole projection.

    Raises:
        InvalidArgument: a matrix that has no such number (zeros, NaN).
    """
    for metric in metrics:
        value, of_whole = SPECTRA[metric], matrices
        if matrices.dim() == 3:
            for head, number in enumerate(value(matrices).tolist()):
                yield Row(part.layer, head, part.role, metric, number)
            of_whole = part.joined(matrices)
        yield Row(part.layer, None, part.role, metric, float(value(of_whole)))
