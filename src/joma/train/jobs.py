"""Parallel training runs, with one process and one thread each, which is faster than one run at a time on all cores.

``train_all`` trains recipes; ``do_all`` does any work that has a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from joma.errors import BadInput, RunFailed
from joma.progress import Progress, silent
from joma.train.recipes import Recipe
from joma.train.run import Run
from joma.workers import Lost, completed

Job = tuple[Recipe, Path, Path]
"""A recipe, the file of its tokens or its law (``save_tokens``, ``save_law``), and the folder of the run."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Work(Protocol[T_co]):
    """Work for one process; it must be picklable."""

    @property
    def name(self) -> str:
        """The name of the work in messages."""
        ...

    @property
    def folder(self) -> Path:
        """The folder of the results, which no other work uses."""
        ...

    def do(self, progress: Progress) -> T_co:
        """Do the work, or continue it after an interruption.

        Args:
            progress: called repeatedly; an exception that it raises interrupts the work.

        Raises:
            BadInput, RunFailed: the work failed; other work continues.
        """
        ...


@dataclass(frozen=True)
class _Failed:
    error: BadInput | RunFailed


@dataclass(frozen=True)
class _Training:
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
    """Train networks in parallel; interrupted runs are continued, and finished ones are not trained again.

    Args:
        jobs: recipe, data file and folder of each run.
        num_workers: number of parallel processes; ``None`` for the number of cores. With one job, one worker or an
            accelerator, which all jobs share, networks are trained one after the other in this process.
        progress: called with the number of finished runs, in fractions.

    Returns:
        the runs, in the order of the jobs; bitwise independent of the number of workers.

    Raises:
        BadInput, RunFailed: a run failed; it is raised after the others have finished. If several failed, the first
            error has a note for each of the others.
        KeyboardInterrupt: every run has written a checkpoint.
    """
    what = "training 1 network" if len(jobs) == 1 else f"training {len(jobs)} networks"
    if any(recipe.device != "cpu" for recipe, _, _ in jobs):
        import torch

        num_workers = 1 if torch.cuda.is_available() else num_workers
    return do_all([_Training(*job) for job in jobs], what, num_workers=num_workers, progress=progress)


def do_all(
    works: Sequence[Work[T]], what: str, *, num_workers: int | None = None, progress: Progress = silent
) -> list[T]:
    """Do work in parallel processes.

    Args:
        works: the work, each with a different folder.
        what: what is done, for ``progress``.
        num_workers: number of parallel processes; ``None`` for the number of cores. One worker needs no process.
        progress: called with the number of finished works, in fractions.

    Returns:
        the results, in the order of the works.

    Raises:
        BadInput, RunFailed: some work failed; it is raised after the rest has finished. If several failed, the first
            error has a note for each of the others.
    """
    folders = [work.folder.resolve() for work in works]
    shared = next((folder for folder in folders if folders.count(folder) > 1), None)
    if shared is not None:
        problem, remedy = f"two jobs name the folder {shared}", "give each its own"
        raise BadInput(problem, expected="a folder for each run", remedy=remedy)
    found = dict(completed(_attempt, works, what, num_workers=num_workers, progress=progress))
    results: list[T] = []
    errors: list[BadInput | RunFailed] = []
    for place, work in enumerate(works):
        result = found[place]
        if isinstance(result, Lost):
            problem = f"the worker process of {work.name!r} was killed"
            kept = f"{work.folder} keeps its measurements and its last checkpoint"
            errors.append(RunFailed(problem, kept=kept, remedy="run it again, with fewer workers if memory is short"))
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
