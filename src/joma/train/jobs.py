"""Many training runs at a time: one process and one thread each, which beats one run on all cores.

``train_all`` does it for runs of a recipe, ``do_all`` for any work with a folder of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from joma.errors import BadInput, RunFailed
from joma.progress import Progress, silent
from joma.train.recipes import Recipe
from joma.train.run import Run
from joma.workers import Lost, completed

Job = tuple[Recipe, Path, Path]
"""What to train, the file its tokens or its law are in (``save_tokens``, ``save_law``), the folder of the run."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Work(Protocol[T_co]):
    """What one worker does from beginning to end; it has to survive pickling."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def folder(self) -> Path:
        """Its own, where all that has to last is kept."""
        ...

    def do(self, progress: Progress) -> T_co:
        """Do it, or go on where it was stopped.

        Args:
            progress: called as it goes on; what it raises stops the work.

        Raises:
            BadInput, RunFailed: it cannot be done; other work goes on.
        """
        ...


@dataclass(frozen=True)
class _Failed:
    error: BadInput | RunFailed


@dataclass(frozen=True)
class _Training:
    """A job, as work."""

    recipe: Recipe
    data_path: Path
    folder: Path

    @property
    def name(self) -> str:
        return self.recipe.name

    def do(self, progress: Progress) -> Run:
        from joma.train.tasks import load_data
        from joma.train.training import train

        return train(self.recipe, load_data(self.data_path), self.folder, progress=progress)


def train_all(jobs: Sequence[Job], *, num_workers: int | None = None, progress: Progress = silent) -> list[Run]:
    """Train networks side by side; each goes on where it was stopped, and the finished are not trained again.

    Args:
        jobs: recipe, data file and folder of each run.
        num_workers: processes at a time; as many as there are cores where ``None``. One job, one worker, or a
            single accelerator that all jobs share need no process of their own.
        progress: called with how many of them are done, in fractions.

    Returns:
        the runs, in the order of the jobs; the same to the bit however many workers there are.

    Raises:
        BadInput, RunFailed: a run could not be had; the others were trained to their end first. With several,
            the first, and a note for each of the others.
        KeyboardInterrupt: every run has left a checkpoint.
    """
    what = "training 1 network" if len(jobs) == 1 else f"training {len(jobs)} networks"
    if _share_accelerator(jobs):
        num_workers = 1
    return do_all([_Training(*job) for job in jobs], what, num_workers=num_workers, progress=progress)


def do_all(
    works: Sequence[Work[T]], what: str, *, num_workers: int | None = None, progress: Progress = silent
) -> list[T]:
    """Do work side by side, in processes of their own.

    Args:
        works: each with a folder of its own.
        what: it is called.
        num_workers: processes at a time; as many as there are cores where ``None``, none where one is enough.
        progress: called with how many of them are done, in fractions.

    Returns:
        what each gave, in their order.

    Raises:
        BadInput, RunFailed: some work could not be done; the other was done to its end first. With several, the
            first, and a note for each of the others.
    """
    _require_own_folders(works)
    found = dict(completed(_attempt, works, what, num_workers=num_workers, progress=progress))
    results: list[T] = []
    errors: list[BadInput | RunFailed] = []
    for place, work in enumerate(works):
        result = found[place]
        if isinstance(result, Lost):
            errors.append(_killed(work))
        elif isinstance(result, _Failed):
            errors.append(result.error)
        else:
            results.append(result)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and: {other}")
        raise errors[0]
    return results


def _attempt(work: Work[T], progress: Progress) -> T | _Failed:
    try:
        return work.do(progress)
    except (BadInput, RunFailed) as error:
        return _Failed(error)


def _killed(work: Work[Any]) -> RunFailed:
    return RunFailed(
        f"a worker process was killed while {work.name!r} trained or waited",
        kept=f"{work.folder} keeps what it had measured and its last checkpoint",
        remedy="run it again, with fewer workers if memory is short",
    )


def _require_own_folders(works: Sequence[Work[Any]]) -> None:
    folders = [work.folder.resolve() for work in works]
    shared = next((folder for folder in folders if folders.count(folder) > 1), None)
    if shared is not None:
        raise BadInput(
            f"two jobs name the folder {shared}", expected="a folder for each run", remedy="give each its own"
        )


def _share_accelerator(jobs: Sequence[Job]) -> bool:
    if all(recipe.device == "cpu" for recipe, _, _ in jobs):
        return False
    import torch

    return torch.cuda.is_available()
