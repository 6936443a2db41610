"""Parallel training runs, with one process and one thread each, which is faster than one run at a time on all cores.

``train_all`` trains recipes; ``do_all`` does any work that has a folder; ``outcomes`` yields each outcome as it comes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from joma.errors import BadInput, RunFailed
from joma.progress import Progress, silent
from joma.train.recipes import Recipe
from joma.train.run import Run
from joma.workers import Engine, Lost, completed

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
class Failed:
    """The outcome of work that failed."""

    error: BadInput | RunFailed


@dataclass(frozen=True)
class Training:
    """The training of a recipe on a file of tokens or a law; see ``Work``."""

    recipe: Recipe
    data_path: Path
    folder: Path

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return self.recipe.name

    def do(self, progress: Progress) -> Run:
        """Train the network, or go on where it was interrupted."""
        from joma.train.tasks import load_data
        from joma.train.training import train

        return train(self.recipe, load_data(self.data_path), self.folder, progress=progress)


@dataclass(frozen=True)
class Timed(Generic[T_co]):
    """Work whose result comes with the seconds that it took."""

    work: Work[T_co]

    @property
    def name(self) -> str:
        """The name of the work."""
        return self.work.name

    @property
    def folder(self) -> Path:
        """The folder of the work."""
        return self.work.folder

    def do(self, progress: Progress) -> tuple[T_co, float]:
        """Do the work, or continue it after an interruption."""
        start = time.perf_counter()
        return self.work.do(progress), time.perf_counter() - start


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
    num_workers = networks_at_a_time([recipe for recipe, _, _ in jobs], num_workers)
    return do_all([Training(*job) for job in jobs], what, num_workers=num_workers, progress=progress)


def networks_at_a_time(recipes: Sequence[Recipe], num_workers: int | None) -> int | None:
    """Return ``num_workers``, or 1 if the networks share an accelerator."""
    return 1 if share_accelerator(recipes) else num_workers


def share_accelerator(recipes: Sequence[Recipe]) -> bool:
    """Whether networks are trained on an accelerator, which they share."""
    if all(recipe.device == "cpu" for recipe in recipes):
        return False
    import torch

    return torch.cuda.is_available()


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
    found = dict(outcomes(works, what, num_workers=num_workers, progress=progress))
    results: list[T] = []
    errors: list[BadInput | RunFailed] = []
    for place in range(len(works)):
        outcome = found[place]
        if isinstance(outcome, Failed):
            errors.append(outcome.error)
        else:
            results.append(outcome)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and: {other}")
        raise errors[0]
    return results


def outcomes(
    works: Sequence[Work[T]],
    what: str,
    *,
    num_workers: int | None = None,
    engine: Engine = "processes",
    progress: Progress = silent,
) -> Generator[tuple[int, T | Failed]]:
    """Do work in parallel, and yield each outcome with the index of its work as it comes; failures stop no other work.

    Closing the generator stops the work that is being done, and starts no other.

    Args:
        works, what, num_workers, progress: as in ``do_all``.
        engine: where the work is done, as in ``joma.workers.completed``.

    Raises:
        BadInput: two works share a folder, or the engine cannot be used.
    """
    folders = Counter(work.folder.resolve() for work in works)
    shared = next((folder for folder, num in folders.items() if num > 1), None)
    if shared is not None:
        problem, remedy = f"two jobs name the folder {shared}", "give each its own"
        raise BadInput(problem, expected="a folder for each run", remedy=remedy)
    for place, outcome in completed(_attempt, works, what, num_workers=num_workers, engine=engine, progress=progress):
        if not isinstance(outcome, Lost):
            yield place, outcome
            continue
        work = works[place]
        problem = f"the worker process of {work.name!r} was killed"
        kept = f"{work.folder} keeps its measurements and its last checkpoint"
        yield place, Failed(RunFailed(problem, kept=kept, remedy="run it again, with fewer workers if memory is short"))


def _attempt(work: Work[T], progress: Progress) -> T | Failed:
    try:
        return work.do(progress)
    except (BadInput, RunFailed) as error:
        return Failed(error)
