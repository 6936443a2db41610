"""The training loop: killed at any moment and started again, a training ends with the same numbers.

The loop takes steps, keeps checkpoints and goes on from them; what is trained, and what is measured and saved on the
way, is a ``Trainee``'s. Its batches follow from the step alone and dropout masks from seed and step, so a checkpoint
needs no state of any generator, and a measurement once on disk is never taken again.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from joma.errors import RunFailed
from joma.progress import Progress
from joma.train.checkpoints import checkpoint_of, newest_checkpoint, restore, write_checkpoint
from joma.train.decoder import seed_of


class Trainee(Protocol):
    """What is trained, and what is done between its steps.

    Args:
        model, optimizer: as they start.
        folder: of the training, for messages.
        checkpoint_folder: where the loop keeps checkpoints.
        num_steps: optimiser steps in all.
        checkpoint_every: steps between checkpoints.
        gradient_clip: the largest norm of a gradient.
        seed: of dropout.
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
        """What the folder keeps of measurements or saved steps, in words."""
        ...

    def first_missing(self) -> float:
        """The first step that has to be recorded and is not yet; infinite if there is none."""
        ...

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step (0 is the first)."""
        ...

    def loss(self, step: int) -> Tensor:
        """The loss in nats of the batch of a step (0 is the first)."""
        ...

    def is_due(self, step: int) -> bool:
        """Whether something is recorded after so many steps."""
        ...

    def record(self, step: int, train_loss: float | None) -> bool:
        """Measure and save what is due, unless it is on disk.

        Args:
            step: optimiser steps done.
            train_loss: mean over the steps since a record was last taken; ``None`` where there were none.

        Returns:
            whether a mean of the training loss was recorded, so that the next one begins here.

        Raises:
            NotFinite: a measurement is no number.
        """
        ...

    def flush(self) -> None:
        """Make sure that what was recorded is on disk before a checkpoint is."""
        ...


class NotFinite(ArithmeticError):
    """Something measured is NaN or infinite, and so is the network that it was measured in."""


def drive(trainee: Trainee, progress: Progress) -> None:
    """Train to the last step, from the newest checkpoint on.

    Args:
        trainee: what is trained; its folder is there, and nobody else's.
        progress: called between any two steps. Ctrl-C and whatever it raises leave a checkpoint of the very step.

    Raises:
        RunFailed: the loss is no number any more, or the disk refuses; what was recorded stays.
    """
    with _deferred_interrupt() as interrupted:
        _keep_freed_pages()
        _Loop(trainee).go(progress, interrupted)


@contextmanager
def writing(folder: Path, kept: Callable[[], str], when: str = "") -> Generator[None]:
    """Turn a disk that refuses into a failed run that says when it did and what is kept."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"the disk refused{when} ({error.strerror or error}: {error.filename or folder})",
            kept=f"{folder} keeps {kept()}",
            remedy="make room or choose another folder; the same recipe and folder go on from there",
        ) from error


class _Loop:
    """A training between two steps."""

    def __init__(self, trainee: Trainee) -> None:
        self.trainee, self.step, self.saved_step = trainee, 0, -1
        self.trained = [parameter for parameter in trainee.model.parameters() if parameter.requires_grad]
        self.device = self.trained[0].device
        self.loss_sum, self.num_losses = torch.zeros((), dtype=torch.float64, device=self.device), 0
        self.first_bad_step = torch.full((), -1, device=self.device)  # looked at when a record or a checkpoint is due
        self.rate = math.nan

    def go(self, progress: Progress, interrupted: Callable[[], bool]) -> None:
        """Train from the newest checkpoint to the last step."""
        with self.writing():
            self.resume()
        self.settle(progress, interrupted)
        while self.step < self.trainee.num_steps:
            self.advance()
            self.settle(progress, interrupted)

    def resume(self) -> None:
        """Go on from the newest checkpoint before what is missing."""
        checkpoint = newest_checkpoint(self.trainee.checkpoint_folder, before=self.trainee.first_missing())
        if checkpoint is not None:
            restore(checkpoint, self.trainee.model, self.trainee.optimizer)
            self.step = self.saved_step = checkpoint.step
            self.loss_sum.fill_(checkpoint.loss_sum)
            self.num_losses = checkpoint.num_losses

    def advance(self) -> None:
        """Take one optimiser step."""
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
        self.step += 1
        self.num_losses += 1
        with torch.no_grad():
            self.loss_sum += loss
            is_bad = ~torch.isfinite(loss + norm) & (self.first_bad_step < 0)
            self.first_bad_step.masked_fill_(is_bad, self.step)

    def settle(self, progress: Progress, interrupted: Callable[[], bool]) -> None:
        """Do what is due between two steps."""
        trainee, is_due, is_last = self.trainee, self.trainee.is_due(self.step), self.step == self.trainee.num_steps
        is_checkpoint = is_last or (self.step > 0 and self.step % trainee.checkpoint_every == 0)
        if is_due or is_checkpoint:
            self.require_finite()
        if is_due:  # before the checkpoint, which must not run ahead of it
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
        """Have recorded what is due at this step."""
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
        """Write a checkpoint of this step, unless there is one; what was recorded reaches the disk before it."""
        if self.step == self.saved_step:
            return
        with self.writing():
            self.trainee.flush()
            model, optimizer = self.trainee.model, self.trainee.optimizer
            state = checkpoint_of(self.step, model, optimizer, self.loss_sum.item(), self.num_losses)
            write_checkpoint(state, self.trainee.checkpoint_folder)
        self.saved_step = self.step

    def require_finite(self) -> None:
        """Stop at a loss or gradient that is no number; what is broken is never saved."""
        if (step := int(self.first_bad_step)) >= 0:
            raise self.broken(step)

    def broken(self, step: int) -> RunFailed:
        """The error for a loss that became NaN or infinite at a step."""
        return RunFailed(
            f"the loss or its gradient is NaN or infinite at step {step}",
            kept=f"{self.trainee.folder} keeps {self.kept()}",
            remedy=f"take a learning rate below {self.rate:g}, in a new folder",
        )

    def kept(self) -> str:
        """What the folder keeps, in words."""
        saved = f"the checkpoint of step {self.saved_step}" if self.saved_step >= 0 else "no checkpoint yet"
        return f"{self.trainee.kept} and {saved}"

    def writing(self) -> AbstractContextManager[None]:
        """Turn a disk that refuses into a failed run."""
        return writing(self.trainee.folder, self.kept, f" at step {self.step}")


def _seed_dropout(device: torch.device, seed: int) -> None:
    generator = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index or 0]
    generator.manual_seed(seed)


def _keep_freed_pages() -> None:
    """Make glibc keep what is freed: logits given back and fetched anew cost up to 1,000 page faults a step.

    The first large block that is freed, up to 32 MiB, sets from where on memory goes back to the system.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


@contextmanager
def _deferred_interrupt() -> Generator[Callable[[], bool]]:
    """Hold the first Ctrl-C back until a step is whole; the second one strikes at once.

    Where somebody else handles it (another thread's loop, a worker that ignores it) nothing is changed.
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
