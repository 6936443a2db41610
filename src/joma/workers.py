"""Parallel work on many items: in processes of this machine, or with Ray on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar

from joma.errors import BadInput, cause_of
from joma.extras import extra
from joma.progress import Progress, part_of, silent

Engine = Literal["processes", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_S = 0.2
_CONNECT_S = 5.0
_OBJECT_STORE_BYTES = 256 << 20  # shared objects are small, and by default Ray takes a third of the memory


@dataclass(frozen=True)
class Lost:
    """The outcome of an item whose worker process was killed, with the reason."""

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
    """Apply a function to many items in parallel, and yield each outcome as it is finished.

    Args:
        do: called with an item and a progress callback, which it must call to be stoppable. It must be picklable. Its
            exceptions stop all work, so it should return expected failures.
        items: must be picklable.
        what: name of the work.
        num_workers: by default the number of processors. With one worker and the engine ``processes`` the work is done
            in this process.
        engine: ``ray`` uses the cluster of RAY_ADDRESS, or starts one on this machine for the work.
        progress: called with the number of items done, in fractions.

    Yields:
        The index of an item, and its outcome.

    Raises:
        BadInput: fewer than one worker, or Ray is not installed, or there is no cluster at RAY_ADDRESS.
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
    """The state shared by workers and their parent: the work, the progress of each item, whether to stop."""

    do: Callable[[Any, Progress], Any]
    shares: Any  # multiprocessing's shared arrays have no public type
    stop: Any


_shared: _Shared | None = None  # set once when a worker starts


def _with_processes(
    do: Callable[[Item, Progress], Result], items: Sequence[Item], what: str, num: int, progress: Progress
) -> Iterator[tuple[int, Result | Lost]]:
    """Work in spawned processes, which inherit no state (threads, locks, CUDA) of this one.

    Each process has a pool of its own, so that a process that is killed loses its own item and no other.
    """
    context = multiprocessing.get_context("spawn")
    shared = _Shared(do, context.RawArray("d", len(items)), context.RawValue("b", 0))
    with ExitStack() as pools:
        start = partial(ProcessPoolExecutor, 1, context, _start_worker, (shared,))
        free = [pools.enter_context(start()) for _ in range(num)]
        left, running = enumerate(items), {}
        try:
            while True:
                for (place, item), pool in zip(islice(left, len(free)), [*free], strict=False):
                    free.remove(pool)
                    running[_submitted(pool, place, item)] = place, pool
                if not running:
                    return
                done = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED).done
                progress(what, sum(shared.shares), len(items))
                for future in done:
                    (place, pool), outcome = running.pop(future), _outcome(future)
                    free.append(pools.enter_context(start()) if isinstance(outcome, Lost) else pool)
                    yield place, outcome
        except BaseException:
            shared.stop.value = 1
            raise


def _submitted(pool: ProcessPoolExecutor, place: int, item: Any) -> Future[Any]:
    """Submit an item; a process that was killed while it waited for work loses the item."""
    with _interrupts_ignored(), _script_hidden():
        try:
            return pool.submit(_in_worker, place, item)
        except BrokenProcessPool as error:
            lost: Future[Any] = Future()
            lost.set_exception(error)
            return lost


def _outcome(future: Future[Result]) -> Result | Lost:
    try:
        return future.result()
    except BrokenProcessPool:
        return Lost("a worker process was killed")


@contextmanager
def _interrupts_ignored() -> Generator[None]:
    """Let processes started inside the block ignore Ctrl-C, also while they still import modules."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _script_hidden() -> Generator[None]:
    """Let processes started inside the block run no script of the user again.

    They need only joma. A script without ``if __name__ == "__main__"`` would start the same work in each of them.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _start_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it and sets ``stop``
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent is killed; otherwise the worker would wait for more work forever."""
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

    report("", 0, 1)  # do not begin if the work was stopped while this worker started
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
        # An item is submitted when a worker is free, so that little is lost if the work is killed.
        shared, task = ray.put(do), ray.remote(num_cpus=1, max_retries=2)(_in_ray)
        left, running, done = list(range(len(items)))[::-1], {}, 0
        errors = ray.exceptions
        lost = (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError)
        most = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        while left or running:
            while left and len(running) < most:
                place = left.pop()
                running[task.remote(shared, items[place])] = place
            for reference in ray.wait(list(running), timeout=_POLL_S)[0]:
                place, done = running.pop(reference), done + 1
                try:
                    yield place, ray.get(reference)
                except lost as error:
                    yield place, Lost(f"a worker of Ray was killed ({type(error).__name__})")
            progress(what, done, len(items))
    finally:
        if started_here:
            ray.shutdown()


def _in_ray(do: Callable[[Item, Progress], Result], item: Item) -> Result:
    return do(item, silent)


def _start_ray(ray: Any, num_workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            _require_listener(address)
            ray.init(**quiet)
        except (OSError, ValueError) as error:  # ConnectionError is an OSError
            raise BadInput(
                f"there is no Ray cluster at RAY_ADDRESS={address} ({cause_of(error)})",
                expected="the address of a running cluster",
                remedy="start it with `ray start --head`, or unset RAY_ADDRESS for one on this machine",
            ) from error
        return
    ray.init(
        num_cpus=num_workers,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        **quiet,
    )


def _require_listener(address: str) -> None:
    """Raise ``OSError`` if nothing listens at ``host:port``, for which Ray itself would wait for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
