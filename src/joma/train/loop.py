"""Train a network so that nothing is lost: killed at any moment and started again, it ends with the same numbers.

All randomness follows from the recipe and the step alone: the initial weights from the seed and their names, the
batch from the step (and, drawn from a law, from the seed), the dropout masks from seed and step. So a checkpoint
needs no state of any generator, and a measurement once on disk is never taken again.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch

from joma.errors import RunFailed
from joma.journal import append_line, line_of
from joma.train.checkpoints import (
    checkpoint_of,
    is_whole,
    newest_checkpoint,
    path_of,
    restore,
    write_checkpoint,
    write_snapshot,
)
from joma.train.decoder import Decoder, seed_of
from joma.train.recipes import Recipe
from joma.train.run import Run, claim_folder, locked
from joma.train.tasks import Data, Task, task_of

Progress = Callable[[int, int], None]
"""Told (steps done, steps in all) between any two steps; what it raises stops the run after a checkpoint."""


def train(recipe: Recipe, data: Data, folder: Path, *, progress: Progress | None = None) -> Run:
    """Train a network, or go on where an earlier call was stopped; a finished run is not trained again.

    Args:
        recipe: all that the numbers depend on, beside the data.
        data: a text, to predict its next token; or a law, to tell its samples' labels from the last position.
        folder: of this run alone; created if need be.
        progress: told how far it is. Ctrl-C and whatever it raises leave a checkpoint of the very step behind.

    Returns:
        the run, its measurements on disk; on a CPU the same to the bit each time, on one machine and one version
        of torch (accelerators add in no fixed order).

    Raises:
        BadInput: a text too short or of another vocabulary, a recipe made for other data or with a setting that
            would change nothing here, a folder that holds something else.
        RunFailed: the loss is no number any more, or the disk refuses; what was measured stays.
    """
    device = torch.device("cuda" if recipe.device == "auto" and torch.cuda.is_available() else "cpu")
    run = Run(folder, recipe)
    devices = [device] if device.type == "cuda" else []
    with _threads(recipe.num_threads), torch.random.fork_rng(devices), _deferred_interrupt() as interrupted:
        _keep_freed_pages()
        task = task_of(recipe, data, device)
        training = _Training(run, task, device)
        with training.writing():
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            with training.writing():
                claim_folder(run, task.about, device)
                training.resume()
            training.go(progress, interrupted)
    return run


class _Training:
    """A network, its optimiser and its task, between two steps."""

    def __init__(self, run: Run, task: Task, device: torch.device) -> None:
        recipe = run.recipe
        self.run, self.recipe, self.task, self.device = run, recipe, task, device
        self.decoder = Decoder(recipe.decoder, recipe.seed, task.log_frequencies).to(device).train()
        self.trained = [parameter for parameter in self.decoder.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.step, self.saved_step, self.measured_step = 0, -1, -1
        self.probe_steps, self.snapshot_steps = frozenset(recipe.probe_steps()), frozenset(recipe.snapshot_steps())
        self.loss_sum, self.num_losses = torch.zeros((), dtype=torch.float64, device=device), 0
        self.first_bad_step = torch.full((), -1, device=device)  # looked at only at probes: no wait in between

    def resume(self) -> None:
        """Pick up what the folder holds: all that is whole, and the newest checkpoint before what is missing."""
        journal = self.run.journal()
        self.measured_step = journal.last_step
        if journal.damage:
            warnings.warn(f"{journal.damage}; measuring again from step {journal.last_step} on", stacklevel=4)
        if self.run.journal_path.exists():
            os.truncate(self.run.journal_path, journal.num_bytes)
        missing = [step for step in self.probe_steps if step > journal.last_step]
        missing += [step for step in self.snapshot_steps if not is_whole(path_of(step, self.run.snapshot_folder))]
        checkpoint = newest_checkpoint(self.run.checkpoint_folder, before=min(missing, default=math.inf))
        if checkpoint is not None:
            restore(checkpoint, self.decoder, self.optimizer)
            self.step = self.saved_step = checkpoint.step
            self.loss_sum.fill_(checkpoint.loss_sum)
            self.num_losses = checkpoint.num_losses

    def go(self, progress: Progress | None, interrupted: Callable[[], bool]) -> None:
        """Train to the last step."""
        self.settle(progress, interrupted)
        while self.step < self.recipe.num_steps:
            self.advance()
            self.settle(progress, interrupted)

    def advance(self) -> None:
        """Take one step of Adam."""
        _seed_dropout(self.device, seed_of(self.recipe.seed, "dropout", self.step))
        loss = self.task.loss(self.decoder, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.gradient_clip)
        self.optimizer.step()
        self.step += 1
        self.num_losses += 1
        with torch.no_grad():
            self.loss_sum += loss
            is_bad = ~torch.isfinite(loss + norm) & (self.first_bad_step < 0)
            self.first_bad_step.masked_fill_(is_bad, self.step)

    def settle(self, progress: Progress | None, interrupted: Callable[[], bool]) -> None:
        """Do what is due between two steps."""
        is_probe, is_last = self.step in self.probe_steps, self.step == self.recipe.num_steps
        is_checkpoint = is_last or (self.step > 0 and self.step % self.recipe.checkpoint_every == 0)
        is_snapshot = self.step in self.snapshot_steps
        if is_probe or is_checkpoint or is_snapshot:
            self.require_finite()
        if is_probe:
            self.measure()
        if is_snapshot:  # before the checkpoint, which must not run ahead of it
            with self.writing():
                write_snapshot(self.step, self.decoder, self.run.snapshot_folder)
        try:
            if progress is not None:
                progress(self.step, self.recipe.num_steps)
            if interrupted():
                raise KeyboardInterrupt
        except BaseException:
            self.require_finite()
            self.save()
            raise
        if is_checkpoint:
            self.save()

    def measure(self) -> None:
        """Take the measurements of this step, unless they stand in the journal already."""
        if self.step > self.measured_step:
            rows = self.task.measure(self.decoder)
            if self.num_losses:
                rows.append((None, None, "train_loss_nats", self.loss_sum.item() / self.num_losses))
            if not all(math.isfinite(row[-1]) for row in rows):
                raise self.broken(self.step)
            with self.writing():
                append_line(self.run.journal_path, line_of(self.step, rows))
            self.measured_step = self.step
        self.loss_sum.zero_()
        self.num_losses = 0

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one; the measurements reach the disk before it."""
        if self.step == self.saved_step:
            return
        with self.writing():
            with self.run.journal_path.open("rb") as journal:
                os.fsync(journal.fileno())
            state = checkpoint_of(self.step, self.decoder, self.optimizer, self.loss_sum.item(), self.num_losses)
            write_checkpoint(state, self.run.checkpoint_folder)
        self.saved_step = self.step

    def require_finite(self) -> None:
        """Stop at a loss or gradient that is no number; what is broken is never saved."""
        if (step := int(self.first_bad_step)) >= 0:
            raise self.broken(step)

    def broken(self, step: int) -> RunFailed:
        """The error for a loss that became NaN or infinite at a step."""
        return self._failed(
            f"the loss or its gradient is NaN or infinite at step {step}",
            f"take a learning rate below {self.recipe.learning_rate:g}, in a new folder",
        )

    @contextmanager
    def writing(self) -> Generator[None]:
        """Turn a disk that refuses into a failed run that says what is kept."""
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            raise self._failed(
                f"the disk refused at step {self.step} ({why}: {error.filename or self.run.folder})",
                "make room or choose another folder; the same recipe and folder go on from there",
            ) from error

    def _failed(self, problem: str, remedy: str) -> RunFailed:
        measured = f"measurements up to step {self.measured_step}" if self.measured_step >= 0 else "no measurement yet"
        saved = f"the checkpoint of step {self.saved_step}" if self.saved_step >= 0 else "no checkpoint yet"
        return RunFailed(problem, kept=f"{self.run.folder} keeps {measured} and {saved}", remedy=remedy)


def _seed_dropout(device: torch.device, seed: int) -> None:
    generator = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index or 0]
    generator.manual_seed(seed)


def _keep_freed_pages() -> None:
    """Make glibc keep what is freed: logits given back and fetched anew cost up to 1,000 page faults a step.

    The first large block that is freed, up to 32 MiB, sets from where on memory goes back to the system.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


@contextmanager
def _threads(num: int) -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
