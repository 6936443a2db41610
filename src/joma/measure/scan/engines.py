"""Where the steps of a scan are measured: this process, several, or Ray on a cluster; the same to the bit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from joma.measure.scan.results import StepResult
from joma.measure.scan.steps import Plan, measure_step
from joma.progress import Progress, part_of, silent
from joma.workers import Engine, Lost, completed

_STARTING_S = 15.0  # two processes with torch and transformers, on a busy machine
_NUM_TRIED = 2


def measured(
    plan: Plan,
    steps: Sequence[int],
    *,
    engine: Engine = "processes",
    num_workers: int | None = None,
    progress: Progress = silent,
) -> Iterator[StepResult]:
    """Measure steps, as many at a time as there are workers, and yield each result as soon as it is there.

    Args:
        plan: what to measure.
        steps: of its series.
        engine: where.
        num_workers: at a time. Where ``None``: with Ray as many as the cluster has processors; otherwise as many
            processes as there are cores, or this one alone where starting others would take longer.
        progress: called with how many steps are done, in fractions.

    Raises:
        BadInput: Ray is not installed, or no worker at all.
    """
    what = f"measuring {len(steps)} steps" if len(steps) > 1 else "measuring"
    first = 0
    if engine == "processes" and num_workers is None and (os.cpu_count() or 1) > 1:
        # Processes take seconds to start; whether that pays is known after the second step (the first one imports).
        first, took = min(_NUM_TRIED, len(steps)), 0.0
        for place, step in enumerate(steps[:first]):
            result = measure_step(plan, step, part_of(progress, what, place, 1, len(steps)))
            took = result.seconds
            yield result
        num_workers = None if took * (len(steps) - first) > _STARTING_S else 1
    left = steps[first:]
    rest = part_of(progress, what, first, len(left), len(steps))
    found = completed(partial(measure_step, plan), left, what, num_workers=num_workers, engine=engine, progress=rest)
    for place, result in found:
        yield _not_measured(left[place], result) if isinstance(result, Lost) else result


def _not_measured(step: int, lost: Lost) -> StepResult:
    reason = f"{lost.reason} while this step was measured or waited"
    return StepResult(step, (), "", 0.0, 0, 0, reason, "run it again, with fewer --workers if memory is short")
