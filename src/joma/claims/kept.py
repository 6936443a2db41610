"""What the output folder keeps of trained networks once the claims that need them are evaluated."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from joma.claims import series
from joma.errors import BadInput, RunFailed
from joma.train.checkpoints import checkpoint_paths, read_checkpoint
from joma.train.run import load_run, shrink_run
from joma.train.series import shrink_series

KEPT = (
    "Of each network the folder keeps the recipe, all measurements and the last weights: all that a page or a table "
    "needs. The state of the optimiser and the weights of earlier steps"
)


def shrink(folder: Path, evaluated: Container[str]) -> int:
    """Remove what finished networks no longer need, and return the number of bytes.

    Weights of earlier steps are removed too: a claim that needs them again, because its code changed, trains again,
    with the same numbers to the bit.

    Args:
        folder: the output folder of ``joma reproduce``.
        evaluated: ids of the claims with evidence; a series keeps its steps until all claims on series are among them.
    """
    freed = 0
    for run in _folders(folder / "runs"):
        try:
            freed += shrink_run(load_run(run))
        except (BadInput, RunFailed):  # damaged, or another process is training there: it stays as it is
            continue
    if all(claim.id in evaluated for claim in series.CLAIMS):
        freed += sum(map(shrink_series, _folders(folder / "series")))
    return freed


def is_shrunk(folder: Path) -> bool:
    """Whether networks in an output folder have lost what ``shrink`` removes."""
    for run in _folders(folder / "runs"):
        for path in checkpoint_paths(run / "checkpoints")[:1]:
            try:
                if (
                    not read_checkpoint(path).optimizer and load_run(run).recipe.optimizer != "sgd"
                ):  # which has no state
                    return True
            except (ValueError, BadInput):
                continue
    return False


def _folders(folder: Path) -> Iterator[Path]:
    yield from sorted(entry for entry in (folder.iterdir() if folder.is_dir() else ()) if entry.is_dir())
