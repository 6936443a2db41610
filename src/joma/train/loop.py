"""The training loop: a run that is killed at any moment and started again ends with the same numbers.

The loop takes optimiser steps, writes checkpoints and resumes from them; a ``Trainee`` defines the model, the loss,
and what is measured and saved. Batches depend only on the step and dropout masks only on seed and step, so that a
checkpoint needs no state of a random generator, and no measurement is repeated once it is on disk.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from joma.errors import DiskFull, RunFailed, is_disk_full
from joma.progress import Progress
from joma.train.checkpoints import checkpoint_of, newest_checkpoint, restore, write_checkpoint
from joma.train.decoder import seed_of


class Trainee(Protocol):
    """A model to train, and its measurements between steps.

    Args:
        model, optimizer: in their initial state.
        folder: the folder of the run, for messages.
        checkpoint_folder: the folder of the checkpoints.
        num_steps: number of optimiser steps.
        checkpoint_every: steps between checkpoints.
        gradient_clip: the largest norm of the gradient.
        seed: seed of dropout.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    folder: Path
    checkpoint_folder: Path
    num_steps: int
    checkpoint_every: int
    gradient_clip: float
    seed: int

    @property
    def kept(self) -> str:
        """The measurements or saved steps in the folder, in words."""
        ...

    def first_missing(self) -> float:
        """Return the first step that is due and not recorded yet; infinity if there is none."""
        ...

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step (0 is the first)."""
        ...

    def loss(self, step: int) -> Tensor:
        """Return the loss in nats on the batch of a step (0 is the first)."""
        ...

    def is_due(self, step: int) -> bool:
        """Whether something is recorded after this number of steps."""
        ...

    def record(self, step: int, train_loss: float | None) -> bool:
        """Measure and save what is due and not on disk yet.

        Args:
            step: number of optimiser steps done.
            train_loss: mean over the steps since it was last recorded; ``None`` if there were none.

        Returns:
            whether the training loss was recorded, so that a new mean starts.

        Raises:
            NotFinite: a measurement is NaN or infinite.
        """
        ...

    def flush(self) -> None:
        """Write all records to disk; called before a checkpoint is written."""
        ...


class NotFinite(ArithmeticError):
    """A measurement is NaN or infinite, and so is the network."""


def drive(trainee: Trainee, progress: Progress) -> None:
    """Train from the newest checkpoint to the last step.

    Args:
        trainee: the model to train; its folder exists, and no other process uses it.
        progress: called after every step. Ctrl-C, or an exception that it raises, first writes a checkpoint.

    Raises:
        RunFailed: the loss is NaN or infinite, or a file cannot be written; records so far are kept.
    """
    with deferred_interrupt() as interrupted:
        keep_freed_pages()
        loop = Loop(trainee)
        loop.resume()
        loop.settle(progress, interrupted)
        while not loop.is_done:
            loop.advance()
            loop.settle(progress, interrupted)


@contextmanager
def writing(folder: Path, kept: Callable[[], str], when: str = "") -> Generator[None]:
    """Raise ``RunFailed`` for an error of the file system, with the time ``when`` and what is ``kept``.

    It is ``DiskFull`` if the disk or a quota is full, which stays known when the error comes from another process.

    Args:
        folder: in which the block writes; it need not exist.
        kept: returns what the folder keeps, in words.
        when: such as `` at step 3``.
    """
    try:
        yield
    except OSError as error:
        cause, is_made = f"{error.strerror or error}: {error.filename or folder}", os.path.isdir(folder)
        problem = f"a file cannot be written{when} ({cause if is_made else _obstacle(folder, cause)})"
        there = f"{folder} keeps {kept()}" if is_made and any(folder.glob("*")) else "nothing was written"
        if is_disk_full(error):
            remedy = "free disk space and run it again to continue, or choose another folder"
            raise DiskFull(problem, kept=there, remedy=remedy) from error
        remedy = "choose another folder, or run it again when this one can be written to"
        raise RunFailed(problem, kept=there, remedy=remedy) from error


def _obstacle(folder: Path, cause: str) -> str:
    """Return what is in the way of a folder that could not be made."""
    nearest = next((part for part in (folder, *folder.parents) if os.path.lexists(part)), folder)
    if os.path.isdir(nearest):
        return f"no folder can be made in {nearest}; {cause}"
    return f"{nearest} is {'a file' if nearest.exists() else 'a broken symbolic link'}"


class Loop:
    """The state of a run between two steps.

    Args:
        trainee: the model to train; its folder exists, and no other process uses it.
    """

    def __init__(self, trainee: Trainee) -> None:
        self.trainee, self.step, self.saved_step = trainee, 0, -1
        self.trained = [parameter for parameter in trainee.model.parameters() if parameter.requires_grad]
        self.device = self.trained[0].device
        self.loss_sum, self.num_losses = torch.zeros((), dtype=torch.float64, device=self.device), 0
        self.first_bad_step = torch.full((), -1, device=self.device)  # read when a record or a checkpoint is due
        self.rate = math.nan

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.trainee.num_steps

    def resume(self) -> None:
        """Load the newest checkpoint before the first missing record."""
        with self.writing():
            checkpoint = newest_checkpoint(
                self.trainee.checkpoint_folder, self.trainee.model, before=self.trainee.first_missing()
            )
        if checkpoint is not None:
            restore(checkpoint, self.trainee.model, self.trainee.optimizer)
            self.step = self.saved_step = checkpoint.step
            self.loss_sum.fill_(checkpoint.loss_sum)
            self.num_losses = checkpoint.num_losses

    def advance(self) -> None:
        """Take one step."""
        trainee = self.trainee
        _seed_dropout(self.device, seed_of(trainee.seed, "dropout", self.step))
        if (rate := trainee.learning_rate(self.step)) != self.rate:
            self.rate = rate
            for group in trainee.optimizer.param_groups:
                group["lr"] = rate
        loss = trainee.loss(self.step)
        trainee.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, trainee.gradient_clip)
        trainee.optimizer.step()
        self.took(loss, norm)

    @torch.no_grad()
    def took(self, loss: Tensor, norm: Tensor) -> None:
        """Count a step that was taken, with its loss and the norm of its gradient."""
        self.step += 1
        self.num_losses += 1
        self.loss_sum += loss
        is_bad = ~torch.isfinite(loss + norm) & (self.first_bad_step < 0)
        self.first_bad_step.masked_fill_(is_bad, self.step)

    def settle(self, progress: Progress, interrupted: Callable[[], bool]) -> None:
        """Record and save what is due after a step."""
        trainee, is_due, is_last = self.trainee, self.trainee.is_due(self.step), self.step == self.trainee.num_steps
        is_checkpoint = is_last or (self.step > 0 and self.step % trainee.checkpoint_every == 0)
        if is_due or is_checkpoint:
            self.require_finite()
        if is_due:  # before the checkpoint, so that a resumed run lacks no record
            self.record()
        try:
            progress("training", self.step, trainee.num_steps)
            if interrupted():
                raise KeyboardInterrupt
        except BaseException:
            self.require_finite()
            self.save()
            raise
        if is_checkpoint:
            self.save()

    def record(self) -> None:
        """Measure and save what is due, with the mean training loss since the last time."""
        mean = self.loss_sum.item() / self.num_losses if self.num_losses else None
        try:
            with self.writing():
                is_mean_used = self.trainee.record(self.step, mean)
        except NotFinite:
            raise self.broken(self.step) from None
        if is_mean_used:
            self.loss_sum.zero_()
            self.num_losses = 0

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one, after all records are on disk."""
        if self.step == self.saved_step:
            return
        with self.writing():
            self.trainee.flush()
            model, optimizer = self.trainee.model, self.trainee.optimizer
            state = checkpoint_of(self.step, model, optimizer, self.loss_sum.item(), self.num_losses)
            write_checkpoint(state, self.trainee.checkpoint_folder)
        self.saved_step = self.step

    @property
    def is_finite(self) -> bool:
        """Whether all losses and gradients so far were finite."""
        return int(self.first_bad_step) < 0

    def require_finite(self) -> None:
        """Raise for a loss or gradient that is NaN or infinite, so that no such state is saved."""
        if not self.is_finite:
            raise self.broken(int(self.first_bad_step))

    def broken(self, step: int) -> RunFailed:
        """Return the error of a network that is NaN or infinite at a step."""
        return RunFailed(
            f"the loss or its gradient is NaN or infinite at step {step}",
            kept=f"{self.trainee.folder} keeps {self.kept()}",
            remedy=f"take a learning rate below {self.rate:g}, in a new folder",
        )

    def kept(self) -> str:
        """Return what is on disk, in words."""
        saved = f"the checkpoint of step {self.saved_step}" if self.saved_step >= 0 else "no checkpoint yet"
        return f"{self.trainee.kept} and {saved}"

    def writing(self) -> AbstractContextManager[None]:
        """Return a block in which an error of the file system becomes one of the run."""
        return writing(self.trainee.folder, self.kept, f" at step {self.step}")


def _seed_dropout(device: torch.device, seed: int) -> None:
    generator = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index or 0]
    generator.manual_seed(seed)


def keep_freed_pages() -> None:
    """Make glibc keep freed memory, because returning and reallocating logits costs up to 1,000 page faults a step.

    The first large block that is freed (up to 32 MiB) sets the size from which memory is returned to the system.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


@contextmanager
def deferred_interrupt() -> Generator[Callable[[], bool]]:
    """Defer the first Ctrl-C to the end of a step; the second one interrupts at once.

    Other signal handlers are not replaced, and threads other than the main thread are not affected.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield lambda: False
        return
    seen = threading.Event()

    def note(signum: int, frame: object) -> None:
        seen.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
