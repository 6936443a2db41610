"""Where the steps of a scan are measured: processes of this machine, or Ray on a cluster; the same to the bit."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from joma.errors import BadInput
from joma.extras import extra
from joma.measure.scan.results import StepResult
from joma.measure.scan.steps import Plan, measure_step
from joma.workers import deaf_to_interrupts, obey_parent

Engine = Literal["processes", "ray"]

Progress = Callable[[float, float], None]
"""Told how many steps are done, in fractions, out of how many."""

_POLL_S = 0.2
_STARTING_S = 15.0  # two processes with torch and transformers, on a busy machine
_NUM_TRIED = 2
_OBJECT_STORE_BYTES = 256 << 20  # a plan is small, and Ray would take a third of the memory


def measured(
    plan: Plan,
    steps: Sequence[int],
    *,
    engine: Engine = "processes",
    num_workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[StepResult]:
    """Measure steps, as many at a time as there are workers, and give each result as soon as it is there.

    Args:
        plan: what to measure.
        steps: of its series.
        engine: where.
        num_workers: at a time. Where ``None``: with Ray as many as the cluster has processors; otherwise as many
            processes as there are cores, or this one alone where the others would not pay.
        progress: told how far they all are.

    Raises:
        BadInput: Ray is not installed, or no worker at all.
    """
    if num_workers is not None and num_workers < 1:
        raise BadInput(f"the number of workers is {num_workers}", expected="at least 1", remedy="pass 1 or more")
    if engine == "ray":
        yield from _with_ray(plan, steps, num_workers, progress)
        return
    num, first = num_workers or os.cpu_count() or 1, 0
    if num_workers is None and num > 1:
        # Processes take seconds to start; whether that pays tells the second step (the first one imports).
        first, took = min(_NUM_TRIED, len(steps)), 0.0
        for result in _here(plan, steps[:first], progress, 0, len(steps)):
            took = result.seconds
            yield result
        num = num if took * (len(steps) - first) > _STARTING_S else 1
    num = min(num, len(steps) - first)
    engine_here = _here if num <= 1 else partial(_with_processes, num_workers=num)
    yield from engine_here(plan, steps[first:], progress, first, len(steps))


def _here(plan: Plan, steps: Sequence[int], progress: Progress, before: int, total: int) -> Iterator[StepResult]:
    for done, step in enumerate(steps, before):
        yield measure_step(plan, step, lambda share, done=done: progress(done + share, total))
        progress(done + 1, total)


@dataclass(frozen=True)
class _Worker:
    """What a worker process has in common with its parent.

    Args:
        plan: what to measure.
        shares: how far each step is.
        stop: not 0 once the parent was interrupted.
    """

    plan: Plan
    shares: Any
    stop: Any


_worker: _Worker | None = None  # a worker's own, set once when it starts


def _with_processes(
    plan: Plan, steps: Sequence[int], progress: Progress, before: int, total: int, *, num_workers: int
) -> Iterator[StepResult]:
    """Spawned processes, so that no state of this one (threads, locks) leaks into them."""
    context = multiprocessing.get_context("spawn")
    worker = _Worker(plan, context.RawArray("d", len(steps)), context.RawValue("b", 0))
    with ProcessPoolExecutor(num_workers, context, _start_worker, (worker,)) as pool:
        with deaf_to_interrupts():
            waiting = {pool.submit(_in_worker, step, index): step for index, step in enumerate(steps)}
        try:
            while waiting:
                done = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED).done
                progress(before + sum(worker.shares), total)
                for future in done:
                    yield _outcome(future, waiting.pop(future))
        except BaseException:
            worker.stop.value = 1
            pool.shutdown(cancel_futures=True)
            raise


def _outcome(future: Future[StepResult], step: int) -> StepResult:
    try:
        return future.result()
    except BrokenProcessPool:
        reason = "a worker process was killed while this step was measured or waited"
        return StepResult(step, (), "", 0.0, 0, 0, reason, "run it again, with fewer --workers if memory is short")


def _start_worker(worker: _Worker) -> None:
    global _worker
    _worker = worker
    obey_parent()


def _in_worker(step: int, index: int) -> StepResult:
    worker = _worker
    assert worker is not None

    def report(share: float) -> None:
        worker.shares[index] = share
        if worker.stop.value:
            raise KeyboardInterrupt

    report(0.0)
    result = measure_step(worker.plan, step, report)
    worker.shares[index] = 1.0
    return result


def _with_ray(plan: Plan, steps: Sequence[int], num_workers: int | None, progress: Progress) -> Iterator[StepResult]:
    """Tasks on the cluster that RAY_ADDRESS names, or on a small one of this machine that ends with the scan."""
    ray = extra("ray", "the engine ray runs through it", otherwise="leave --engine out for processes of this machine")
    started_here = not ray.is_initialized()
    if started_here:
        _start_ray(ray, num_workers)
    try:
        # Steps are given out as workers come free, so that a killed scan leaves little undone.
        shared, task = ray.put(plan), ray.remote(num_cpus=1, max_retries=2)(measure_step)
        left, running, done = list(reversed(steps)), {}, 0
        most = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        while left or running:
            while left and len(running) < most:
                step = left.pop()
                running[task.remote(shared, step)] = step
            for reference in ray.wait(list(running), timeout=_POLL_S)[0]:
                step, done = running.pop(reference), done + 1
                try:
                    yield ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                    reason = f"a worker of Ray was killed while this step was measured ({type(error).__name__})"
                    yield StepResult(step, (), "", 0.0, 0, 0, reason, "run it again with fewer --workers")
            progress(done, len(steps))
    finally:
        if started_here:
            ray.shutdown()


def _start_ray(ray: Any, num_workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    ray.init(
        num_cpus=num_workers,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        **quiet,
    )
