"""Measure the steps of a scan in this process, in several, or with Ray on a cluster, with bit-identical results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from joma.measure.scan.results import StepResult
from joma.measure.scan.steps import Plan, measure_step
from joma.progress import Progress, part_of, silent
from joma.workers import Engine, Lost, completed

_STARTING_S = 15.0  # time to start two processes with torch and transformers on a busy machine
_NUM_TRIED = 2


def measured(
    plan: Plan,
    steps: Sequence[int],
    *,
    engine: Engine = "processes",
    num_workers: int | None = None,
    progress: Progress = silent,
) -> Iterator[StepResult]:
    """Measure steps in parallel, and yield each result when it is finished.

    Args:
        plan: what to measure.
        steps: of its series.
        engine: ``processes`` or ``ray``.
        num_workers: number of parallel workers. ``None`` means with Ray the number of processors of the cluster, and
            otherwise one process per core, or only this process if starting others would take longer.
        progress: called with the number of finished steps, in fractions.

    Raises:
        BadInput: Ray is not installed, or ``num_workers`` is less than 1.
    """
    what = f"measuring {len(steps)} steps" if len(steps) > 1 else "measuring"
    first = 0
    if engine == "processes" and num_workers is None and (os.cpu_count() or 1) > 1:
        # Processes take seconds to start. The second step shows whether that pays; the first one includes imports.
        first, took = min(_NUM_TRIED, len(steps)), 0.0
        for place, step in enumerate(steps[:first]):
            result = measure_step(plan, step, part_of(progress, what, place, 1, len(steps)))
            took = result.seconds
            yield result
        num_workers = None if took * (len(steps) - first) > _STARTING_S else 1
    left = steps[first:]
    rest = part_of(progress, what, first, len(left), len(steps))
    found = completed(partial(measure_step, plan), left, what, num_workers=num_workers, engine=engine, progress=rest)
    remedy = "run it again, with fewer `workers` if memory is short"
    for place, result in found:
        if isinstance(result, Lost):
            reason = f"{result.reason} while this step was measured or waited"
            result = StepResult(left[place], (), "", 0.0, 0, 0, reason, remedy)
        yield result
