"""The runs of a sweep: many training runs in parallel, of which each may fail without harm to the others."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from joma.errors import DiskFull, RunFailed, cause_of, is_disk_full, is_out_of_memory
from joma.journal import sample_journal
from joma.measure.curves.quantities import ENTROPY
from joma.progress import Progress, part_of, silent
from joma.train.jobs import Failed, Job, Training, networks_at_a_time, outcomes, share_accelerator
from joma.train.recipes import Recipe
from joma.train.run import Run, shrink_run
from joma.train.stacking import can_be_stacked, shape_of, train_stack
from joma.train.sweeps.outcomes import Outcome
from joma.train.text.vocabulary import Tokens, load_tokens
from joma.workers import Engine

LOSS = "val_loss_nats"

MOST_MEMBERS = 32
"""Networks in a stack at most: at 28,782 words their weights and Adam's moments take some 6 GB."""


@dataclass(frozen=True)
class _Timed:
    """The training of one run, timed; what is not needed to read it again is removed unless ``keep``."""

    training: Training
    keep: bool

    @property
    def name(self) -> str:
        return self.training.name

    @property
    def folder(self) -> Path:
        return self.training.folder

    def do(self, progress: Progress) -> Outcome:
        steps: list[float] = []

        def report(what: str, done: float, total: float) -> None:
            if not steps:
                steps.append(done)
            progress(what, done, total)

        started = time.monotonic()
        try:
            run = self.training.do(report)
        except RunFailed:
            raise
        except (MemoryError, OverflowError, RuntimeError) as error:  # such as too little memory for a large network
            raise _stopped(error, self.folder) from error
        seconds = time.monotonic() - started
        if not self.keep:
            with contextlib.suppress(OSError):  # the run is finished; only space is not freed
                shrink_run(run)
        first = int(steps[0])
        is_new = first < run.recipe.num_steps
        return Outcome(run.recipe.name, "finished", "", round(seconds, 3) if is_new else None, first)


def _stopped(error: Exception, folder: Path) -> RunFailed:
    kept, remedy = f"{folder} keeps what was measured", "make the network smaller, or train fewer at a time"
    kind = DiskFull if is_disk_full(error) else RunFailed
    return kind(f"training stopped ({cause_of(error)})", kept=kept, remedy=remedy)


def train_runs(
    jobs: Sequence[Job],
    *,
    engine: Engine = "processes",
    num_workers: int | None = None,
    keep: bool = False,
    progress: Progress = silent,
) -> Iterator[Outcome]:
    """Train the runs of a sweep, and yield the outcome of each as it comes; the others go on if one fails.

    Interrupted runs go on from their last checkpoint, and finished ones are not trained again, so that a run that an
    engine starts twice gives the same numbers once.

    Args:
        jobs: recipe, file of tokens and folder of each run.
        engine: ``processes`` of this machine, or ``ray``; its workers must see the same files. On an accelerator of
            this machine, runs of one shape are trained as one stack in this process.
        num_workers: runs at a time; ``None`` for the number of processors.
        keep: whether to keep the optimiser's state and earlier checkpoints of finished runs.
        progress: called with the number of finished runs, in fractions where the engine reports them.

    Raises:
        BadInput: the engine cannot be used.
        DiskFull: a run could not write; no other is started, and those that train have stopped.
        KeyboardInterrupt: every run of this machine has written a checkpoint.
    """
    recipes = [recipe for recipe, _, _ in jobs]
    if engine == "processes" and share_accelerator(recipes) and all(map(can_be_stacked, recipes)):
        yield from train_stacks(jobs, keep=keep, progress=progress)
        return
    works = [_Timed(Training(recipe, path.resolve(), folder.resolve()), keep) for recipe, path, folder in jobs]
    what = "training 1 network" if len(jobs) == 1 else f"training {len(jobs)} networks"
    num_workers = networks_at_a_time(recipes, num_workers)
    found = outcomes(works, what, num_workers=num_workers, engine=engine, progress=progress)
    with contextlib.closing(found):  # which stops the workers
        for place, outcome in found:
            if isinstance(outcome, Failed) and isinstance(outcome.error, DiskFull):
                raise outcome.error
            if isinstance(outcome, Failed):
                outcome = Outcome(works[place].name, "failed", reason_of(outcome.error))
            yield outcome


def train_stacks(jobs: Sequence[Job], *, keep: bool = False, progress: Progress = silent) -> Iterator[Outcome]:
    """Train the runs of a sweep, those of one shape as one stack; see ``train_runs``.

    An accelerator trains a stack in little more time than one of its members. The seconds of a run are those of its
    stacks, divided among the members. If a stack needs more memory than there is, its members go on from their last
    checkpoints in stacks of half its size; a network that is too large alone fails, and the others go on.
    """
    groups = _groups(jobs)
    num_stacks = [math.ceil(len(group) / MOST_MEMBERS) for group in groups]
    num_done = 0
    for at, group in enumerate(groups):
        size, members = MOST_MEMBERS, [_Member.of(job) for job in group]
        tokens = load_tokens(group[0][1])
        while members:
            stack = members[:size]
            num_all = sum(num_stacks)
            what = f"training {len(jobs)} networks in {num_all} stack{'' if num_all == 1 else 's'}"
            found = _attempt(stack, tokens, part_of(progress, what, num_done, len(stack), len(jobs)))
            if isinstance(found, Exception):
                _free_memory()
            if isinstance(found, Exception) and is_out_of_memory(found) and len(stack) > 1:
                before, size = math.ceil(len(members) / size), math.ceil(len(stack) / 2)
                num_stacks[at] += math.ceil(len(members) / size) - before
                continue
            members, num_done = members[len(stack) :], num_done + len(stack)
            for place, member in enumerate(stack):
                yield member.outcome(found if isinstance(found, Exception) else found[place], keep)


@dataclass
class _Member:
    """A run of a stack, over all attempts to train it.

    Args:
        job: of the run.
        was_finished: before the first attempt.
        first_step: from which it was trained; ``None`` before a step was taken.
        seconds: its share of the time of all attempts.
    """

    job: Job
    was_finished: bool
    first_step: int | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, job: Job) -> _Member:
        recipe, _, folder = job
        return cls(job, Run(folder, recipe).journal().last_step == recipe.num_steps)

    def outcome(self, found: Run | Exception, keep: bool) -> Outcome:
        recipe, _, folder = self.job
        if isinstance(found, Exception) and not self.was_finished:
            error = found if isinstance(found, RunFailed) else _stopped(found, folder)
            return Outcome(recipe.name, "failed", reason_of(error))
        if not keep:
            with contextlib.suppress(OSError):  # the run is finished; only space is not freed
                shrink_run(Run(folder, recipe))
        is_old = self.was_finished or self.first_step is None
        first = recipe.num_steps if is_old else self.first_step
        return Outcome(recipe.name, "finished", "", None if self.was_finished else round(self.seconds, 3), first)


def _attempt(stack: Sequence[_Member], tokens: Tokens, progress: Progress) -> list[Run | RunFailed] | Exception:
    """Train a stack, and return its runs, or the error that stopped it, such as too little memory."""
    steps: list[float] = []
    raised: list[BaseException] = []
    recipes, folders = [member.job[0] for member in stack], [member.job[2] for member in stack]
    started = time.monotonic()
    try:
        return train_stack(recipes, tokens, folders, progress=partial(_noted, steps, raised, progress))
    except RunFailed:
        raise
    except (MemoryError, OverflowError, RuntimeError) as error:
        if error in raised:  # by who asked for progress, to stop the work
            raise
        if is_disk_full(error):
            raise _stopped(error, folders[0].parent) from error
        return error.with_traceback(None)  # whose frames keep the tensors of the stack
    finally:
        share = (time.monotonic() - started) / max(1, sum(not member.was_finished for member in stack))
        for member in stack:
            member.seconds += share
            if member.first_step is None and steps:
                member.first_step = int(steps[0]) - 1


def _noted(
    steps: list[float], raised: list[BaseException], progress: Progress, what: str, done: float, total: float
) -> None:
    """Report progress; note the step, and the exception that ``progress`` raises."""
    steps.append(done)
    try:
        progress(what, done, total)
    except BaseException as error:
        raised.append(error)
        raise


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group jobs whose networks have one shape and text."""
    groups: dict[tuple[Recipe, Path], list[Job]] = {}
    for job in jobs:
        groups.setdefault((shape_of(job[0]), job[1]), []).append(job)
    return list(groups.values())


def _free_memory() -> None:
    """Return the memory of a stack that is no longer used to the accelerator."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reason_of(error: Exception) -> str:
    """Return why a run failed and what to do; what is kept is said of the whole sweep."""
    return f"{error.problem}; {error.remedy}" if isinstance(error, RunFailed) else str(error)


@dataclass(frozen=True)
class Standing:
    """The last measurement of a run.

    Args:
        step: of the measurement.
        loss: held-out loss in nats.
        entropy: attention entropy in nats, the mean over layers and heads.
    """

    step: int
    loss: float
    entropy: float


def standing_of(run: Run) -> Standing | None:
    """Return the last measurement of a run that may be training in another process; ``None`` if there is none."""
    try:
        journal, _ = sample_journal(run.journal_path, lambda num: [num - 1] if num else [])
    except (OSError, ValueError):  # no file, or an empty one
        return None
    if not journal.probes:
        return None
    step, rows = journal.probes[-1]
    entropies = [row.value for row in rows if row.metric == ENTROPY and row.group is None]
    loss = next((row.value for row in rows if row.metric == LOSS), float("nan"))
    return Standing(step, loss, sum(entropies) / max(1, len(entropies)))
