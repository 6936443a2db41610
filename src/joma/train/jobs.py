"""Many training runs at a time: one process and one thread each, which beats one run on all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joma.errors import BadInput, RunFailed
from joma.train.recipes import Recipe
from joma.train.run import Run

Job = tuple[Recipe, Path, Path]
"""What to train, the file its tokens or its law are in (``save_tokens``, ``save_law``), the folder of the run."""

TotalProgress = Callable[[str, float, float], None]
"""Told (what is being done, steps done, steps in all), over all runs together."""

_POLL_S = 0.2


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
    _require_own_folders(jobs)
    if num_workers is None:
        num_workers = os.cpu_count() or 1
    if num_workers < 1:
        raise BadInput(f"num_workers is {num_workers}", expected="at least 1", remedy="pass 1 or more")
    num_workers = min(num_workers, len(jobs))
    results = (
        _here(jobs, progress) if num_workers <= 1 or _share_accelerator(jobs) else _spread(jobs, num_workers, progress)
    )
    errors = [result for result in results if not isinstance(result, Run)]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and: {other}")
        raise errors[0]
    return [result for result in results if isinstance(result, Run)]


Result = Run | BadInput | RunFailed


def _here(jobs: Sequence[Job], progress: TotalProgress | None) -> list[Result]:
    """One after the other in this process."""
    total, before = sum(recipe.num_steps for recipe, _, _ in jobs), 0
    results: list[Result] = []
    for job in jobs:
        report = None if progress is None else _throttled(progress, _what(jobs), before, total)
        results.append(_result(job, report))
        before += job[0].num_steps
    return results


def _result(job: Job, report: Callable[[int, int], None] | None) -> Result:
    from joma.train.loop import train
    from joma.train.tasks import load_data

    recipe, data_path, folder = job
    try:
        return train(recipe, load_data(data_path), folder, progress=report)
    except (BadInput, RunFailed) as error:
        return error


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


def _spread(jobs: Sequence[Job], num_workers: int, progress: TotalProgress | None) -> list[Result]:
    """Spawned processes, so that no state of this one (threads, locks, CUDA) leaks into them."""
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context.RawArray("q", len(jobs)), context.RawValue("b", 0))
    total = sum(recipe.num_steps for recipe, _, _ in jobs)
    with ProcessPoolExecutor(num_workers, context, _start_worker, (shared,)) as pool:
        with _deaf_to_interrupts():
            futures = [pool.submit(_in_worker, job, index) for index, job in enumerate(jobs)]
        try:
            pending = set(futures)
            while pending:
                pending = wait(pending, timeout=_POLL_S).not_done
                if progress is not None:
                    progress(_what(jobs), sum(shared.steps_done), total)
        except BaseException:
            shared.stop.value = 1
            pool.shutdown(cancel_futures=True)
            raise
    return [_outcome(future, job) for future, job in zip(futures, jobs, strict=True)]


@contextmanager
def _deaf_to_interrupts() -> Generator[None]:
    """Processes started here ignore Ctrl-C from birth, so that none dies of it while it is still importing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _outcome(future: Future[Result], job: Job) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        return RunFailed(
            f"a worker process was killed while {job[0].name!r} trained or waited",
            kept=f"{job[2]} keeps what it had measured and its last checkpoint",
            remedy="run it again, with fewer workers if memory is short",
        )


def _start_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and tells the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Die when a parent that was killed leaves its workers behind: a run may end anywhere, and a pool would wait."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(job: Job, index: int) -> Result:
    shared = _shared
    assert shared is not None

    def report(done: int, _: int) -> None:
        shared.steps_done[index] = done
        if shared.stop.value:
            raise KeyboardInterrupt

    report(0, job[0].num_steps)  # stopped while this worker was starting: nothing to load, nothing to save
    return _result(job, report)


def _require_own_folders(jobs: Sequence[Job]) -> None:
    folders = [folder.resolve() for _, _, folder in jobs]
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


def _what(jobs: Sequence[Job]) -> str:
    return "training 1 network" if len(jobs) == 1 else f"training {len(jobs)} networks"
