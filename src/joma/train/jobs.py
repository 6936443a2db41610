"""Many training runs at a time: one process and one thread each, which beats one run on all cores.

``train_all`` does it for runs of a recipe, ``do_all`` for any work that can be cut into steps.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from joma.errors import BadInput, RunFailed
from joma.train.recipes import Recipe
from joma.train.run import Run
from joma.workers import deaf_to_interrupts, obey_parent

Job = tuple[Recipe, Path, Path]
"""What to train, the file its tokens or its law are in (``save_tokens``, ``save_law``), the folder of the run."""

TotalProgress = Callable[[str, float, float], None]
"""Told (what is being done, steps done, steps in all), over all runs together."""

_POLL_S = 0.2


T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Work(Protocol[T_co]):
    """What one worker does from beginning to end; it has to survive the way into another process."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def folder(self) -> Path:
        """Its own, where all that has to last is kept."""
        ...

    @property
    def num_steps(self) -> int:
        """How many steps it is cut into."""
        ...

    def do(self, report: Callable[[int, int], None] | None) -> T_co:
        """Do it, or go on where it was stopped.

        Args:
            report: told (steps done, steps in all); what it raises stops the work.

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

    @property
    def num_steps(self) -> int:
        return self.recipe.num_steps

    def do(self, report: Callable[[int, int], None] | None) -> Run:
        from joma.train.loop import train
        from joma.train.tasks import load_data

        return train(self.recipe, load_data(self.data_path), self.folder, progress=report)


def train_all(
    jobs: Sequence[Job], *, num_workers: int | None = None, progress: TotalProgress | None = None
) -> list[Run]:
    """Train networks side by side; each goes on where it was stopped, and the finished are not trained again.

    Args:
        jobs: recipe, data file and folder of each run.
        num_workers: processes at a time; as many as there are cores where ``None``. One job, one worker, or a
            single accelerator that all jobs share need no process of their own.
        progress: told how far they all are together.

    Returns:
        the runs, in the order of the jobs; the same to the bit however many workers there are.

    Raises:
        BadInput, RunFailed: a run could not be had; the others were trained to their end first. With several,
            the first, and a note for each of the others.
        KeyboardInterrupt: every run has left a checkpoint.
    """
    what = "training 1 network" if len(jobs) == 1 else f"training {len(jobs)} networks"
    at_most = 1 if _share_accelerator(jobs) else None
    return do_all([_Training(*job) for job in jobs], what, num_workers, progress, at_most)


def do_all(
    works: Sequence[Work[T]],
    what: str,
    num_workers: int | None = None,
    progress: TotalProgress | None = None,
    at_most: int | None = None,
) -> list[T]:
    """Do work side by side, in processes of their own.

    Args:
        works: each with a folder of its own.
        what: is being done, for ``progress``.
        num_workers: processes at a time; as many as there are cores where ``None``, none where one is enough.
        progress: told how far they all are together.
        at_most: processes, whatever was asked for.

    Returns:
        what each gave, in their order.

    Raises:
        BadInput, RunFailed: some work could not be done; the other was done to its end first. With several, the
            first, and a note for each of the others.
    """
    _require_own_folders(works)
    if num_workers is None:
        num_workers = os.cpu_count() or 1
    if num_workers < 1:
        raise BadInput(f"num_workers is {num_workers}", expected="at least 1", remedy="pass 1 or more")
    num_workers = min(num_workers, len(works), at_most or num_workers)
    results = _here(works, what, progress) if num_workers <= 1 else _spread(works, what, num_workers, progress)
    errors = [result.error for result in results if isinstance(result, _Failed)]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and: {other}")
        raise errors[0]
    return [result for result in results if not isinstance(result, _Failed)]


def _here(works: Sequence[Work[T]], what: str, progress: TotalProgress | None) -> list[T | _Failed]:
    """One after the other in this process."""
    total, before = sum(work.num_steps for work in works), 0
    results: list[T | _Failed] = []
    for work in works:
        report = None if progress is None else _throttled(progress, what, before, total)
        results.append(_result(work, report))
        before += work.num_steps
    return results


def _result(work: Work[T], report: Callable[[int, int], None] | None) -> T | _Failed:
    try:
        return work.do(report)
    except (BadInput, RunFailed) as error:
        return _Failed(error)


def _throttled(progress: TotalProgress, what: str, before: int, total: int) -> Callable[[int, int], None]:
    last = -1.0

    def report(done: int, num_steps: int) -> None:
        nonlocal last
        if done == num_steps or time.monotonic() - last > _POLL_S:
            last = time.monotonic()
            progress(what, before + done, total)

    return report


@dataclass(frozen=True)
class _Shared:
    """What parent and workers have in common: how far each job is, and whether to stop."""

    steps_done: Any  # multiprocessing's shared arrays have no public type
    stop: Any


_shared: _Shared | None = None  # a worker's own, set once when it starts


def _spread(works: Sequence[Work[T]], what: str, num_workers: int, progress: TotalProgress | None) -> list[T | _Failed]:
    """Spawned processes, so that no state of this one (threads, locks, CUDA) leaks into them."""
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context.RawArray("q", len(works)), context.RawValue("b", 0))
    total = sum(work.num_steps for work in works)
    with ProcessPoolExecutor(num_workers, context, _start_worker, (shared,)) as pool:
        with deaf_to_interrupts():
            futures = [pool.submit(_in_worker, work, index) for index, work in enumerate(works)]
        try:
            pending = set(futures)
            while pending:
                pending = wait(pending, timeout=_POLL_S).not_done
                if progress is not None:
                    progress(what, sum(shared.steps_done), total)
        except BaseException:
            shared.stop.value = 1
            pool.shutdown(cancel_futures=True)
            raise
    return [_outcome(future, work) for future, work in zip(futures, works, strict=True)]


def _outcome(future: Future[T | _Failed], work: Work[T]) -> T | _Failed:
    try:
        return future.result()
    except BrokenProcessPool:
        return _Failed(
            RunFailed(
                f"a worker process was killed while {work.name!r} trained or waited",
                kept=f"{work.folder} keeps what it had measured and its last checkpoint",
                remedy="run it again, with fewer workers if memory is short",
            )
        )


def _start_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    obey_parent()


def _in_worker(work: Work[Any], index: int) -> Any:
    shared = _shared
    assert shared is not None

    def report(done: int, _: int) -> None:
        shared.steps_done[index] = done
        if shared.stop.value:
            raise KeyboardInterrupt

    report(0, work.num_steps)  # stopped while this worker was starting: nothing to load, nothing to save
    return _result(work, report)


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
