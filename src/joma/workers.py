"""One pool of workers for whatever can be done side by side: processes of this machine, or Ray on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from joma.errors import BadInput
from joma.extras import extra
from joma.progress import Progress, part_of, silent

Engine = Literal["processes", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_S = 0.2
_OBJECT_STORE_BYTES = 256 << 20  # what is shared is small, and Ray would take a third of the memory


@dataclass(frozen=True)
class Lost:
    """The outcome of an item whose worker process was killed while the item was worked on or waited.

    Args:
        reason: what is known of it.
    """

    reason: str


def completed(
    do: Callable[[Item, Progress], Result],
    items: Sequence[Item],
    what: str,
    *,
    num_workers: int | None = None,
    engine: Engine = "processes",
    progress: Progress = silent,
) -> Iterator[tuple[int, Result | Lost]]:
    """Do the same with many items, as many at a time as there are workers; yield each outcome when it is there.

    Args:
        do: does it with one item; must survive pickling, and reports its progress so that it can be stopped. What it
            raises stops everything, so expected failures are to be returned.
        items: must survive pickling too.
        what: the work is called.
        num_workers: at a time; as many as there are processors where ``None``. One worker of the engine
            ``processes`` is this process.
        engine: ``ray`` uses the cluster that RAY_ADDRESS names, or a small one of this machine that ends with the
            work.
        progress: called with how many items are done, in fractions.

    Yields:
        An item's place among the items, and its outcome.

    Raises:
        BadInput: no worker at all, or Ray is not installed.
    """
    if num_workers is not None and num_workers < 1:
        raise BadInput(f"the number of workers is {num_workers}", expected="at least 1", remedy="pass 1 or more")
    if engine == "ray":
        yield from _with_ray(do, items, what, num_workers, progress)
        return
    num = min(num_workers or os.cpu_count() or 1, len(items))
    if num > 1:
        yield from _with_processes(do, items, what, num, progress)
        return
    for place, item in enumerate(items):
        yield place, do(item, part_of(progress, what, place, 1, len(items)))
        progress(what, place + 1, len(items))


@dataclass(frozen=True)
class _Shared:
    """What a worker process has in common with its parent: the work, how far each item is, whether to stop."""

    do: Callable[[Any, Progress], Any]
    shares: Any  # multiprocessing's shared arrays have no public type
    stop: Any


_shared: _Shared | None = None  # a worker's own, set once when it starts


def _with_processes(
    do: Callable[[Item, Progress], Result], items: Sequence[Item], what: str, num: int, progress: Progress
) -> Iterator[tuple[int, Result | Lost]]:
    """Spawned processes, so that no state of this one (threads, locks, CUDA) leaks into them."""
    context = multiprocessing.get_context("spawn")
    shared = _Shared(do, context.RawArray("d", len(items)), context.RawValue("b", 0))
    with ProcessPoolExecutor(num, context, _start_worker, (shared,)) as pool:
        with _interrupts_ignored():
            waiting = {pool.submit(_in_worker, place, item): place for place, item in enumerate(items)}
        try:
            while waiting:
                done = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED).done
                progress(what, sum(shared.shares), len(items))
                for future in done:
                    yield waiting.pop(future), _outcome(future)
        except BaseException:
            shared.stop.value = 1
            pool.shutdown(cancel_futures=True)
            raise


def _outcome(future: Future[Result]) -> Result | Lost:
    try:
        return future.result()
    except BrokenProcessPool:
        return Lost("a worker process was killed")


@contextmanager
def _interrupts_ignored() -> Generator[None]:
    """Processes started here ignore Ctrl-C from birth, so that none dies of it while it is still importing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it and sets ``stop``
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed leaves its workers behind, and a pool would wait for more work for good."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(place: int, item: Any) -> Any:
    shared = _shared
    assert shared is not None

    def report(_: str, done: float, out_of: float) -> None:
        shared.shares[place] = done / out_of
        if shared.stop.value:
            raise KeyboardInterrupt

    report("", 0, 1)  # stopped while this worker was starting: nothing to load, nothing to save
    result = shared.do(item, report)
    shared.shares[place] = 1
    return result


def _with_ray(
    do: Callable[[Item, Progress], Result],
    items: Sequence[Item],
    what: str,
    num_workers: int | None,
    progress: Progress,
) -> Iterator[tuple[int, Result | Lost]]:
    ray = extra("ray", "the engine ray runs through it", otherwise="use processes of this machine")
    started_here = not ray.is_initialized()
    if started_here:
        _start_ray(ray, num_workers)
    try:
        # Items are given out as workers come free, so that work that is killed leaves little undone.
        shared, task = ray.put(do), ray.remote(num_cpus=1, max_retries=2)(_in_ray)
        left, running, done = list(range(len(items)))[::-1], {}, 0
        most = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        while left or running:
            while left and len(running) < most:
                place = left.pop()
                running[task.remote(shared, items[place])] = place
            for reference in ray.wait(list(running), timeout=_POLL_S)[0]:
                place, done = running.pop(reference), done + 1
                try:
                    yield place, ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                    yield place, Lost(f"a worker of Ray was killed ({type(error).__name__})")
            progress(what, done, len(items))
    finally:
        if started_here:
            ray.shutdown()


def _in_ray(do: Callable[[Item, Progress], Result], item: Item) -> Result:
    return do(item, silent)


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
