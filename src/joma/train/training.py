"""Train a network of ours on a text, on the labels of a law or on those of pictures, in a folder of its own."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from joma.devices import device_of
from joma.journal import append_line, probe_line
from joma.progress import Progress, silent
from joma.records import Row
from joma.threads import threads
from joma.train.checkpoints import is_whole, path_of, write_snapshot
from joma.train.loop import NotFinite, drive, writing
from joma.train.recipes import Recipe
from joma.train.run import Run, claim_folder, locked
from joma.train.tasks import Data, Task, task_of
from joma.train.vision import class_of


def train(recipe: Recipe, data: Data, folder: Path, *, progress: Progress = silent) -> Run:
    """Train a network, or go on where an earlier call was stopped; a finished run is not trained again.

    Args:
        recipe: all that the numbers depend on, except the data.
        data: a text, to predict its next token; a law, to predict its samples' labels from the last position; or
            pictures, to predict their labels.
        folder: of this run alone; created if need be.
        progress: called between any two steps. Ctrl-C and whatever it raises leave a checkpoint of the very step
            behind.

    Returns:
        the run, its measurements on disk; on a CPU the same to the bit each time, on one machine and one version
        of torch (accelerators add in no fixed order).

    Raises:
        BadInput: a text too short or of another vocabulary, a recipe made for other data or with a setting that
            would change nothing here, a folder that holds something else.
        RunFailed: the loss is no number any more, or the disk refuses; what was measured stays.
    """
    device = device_of(recipe.device, "train")
    with (
        threads(recipe.num_threads),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        opened(recipe, data, folder, device) as trainee,
    ):
        drive(trainee, progress)
    return trainee.run


@contextmanager
def opened(recipe: Recipe, data: Data, folder: Path, device: torch.device) -> Generator[DecoderTrainee]:
    """Yield what the loop trains, with its folder locked and checked.

    Raises:
        BadInput, RunFailed: as ``train``.
    """
    run = Run(folder, recipe)
    task = task_of(recipe, data, device)
    trainee = DecoderTrainee(run, task, device)
    with writing(folder, lambda: "nothing new"):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        with writing(folder, lambda: "what was there"):
            claim_folder(run, task.about, device)
            trainee.look_at_journal()
        yield trainee


_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


class DecoderTrainee:
    """A decoder as the loop trains it, with its run's journal and snapshots; see ``joma.train.loop.Trainee``."""

    def __init__(self, run: Run, task: Task, device: torch.device) -> None:
        recipe = run.recipe
        self.run, self.recipe, self.task = run, recipe, task
        network = class_of(recipe.decoder)(recipe.decoder, recipe.seed, task.log_frequencies)
        self.decoder = network.to(device).train()
        self.model: nn.Module = self.decoder
        self.optimizer: torch.optim.Optimizer = _OPTIMIZERS[recipe.optimizer](
            [parameter for parameter in self.decoder.parameters() if parameter.requires_grad],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.folder, self.checkpoint_folder = run.folder, run.checkpoint_folder
        self.num_steps, self.checkpoint_every = recipe.num_steps, recipe.checkpoint_every
        self.gradient_clip, self.seed = recipe.gradient_clip, recipe.seed
        self.probe_steps, self.snapshot_steps = frozenset(recipe.probe_steps()), frozenset(recipe.snapshot_steps())
        self.measured_step = -1

    @property
    def kept(self) -> str:
        """The measurements in the folder, in words."""
        return f"measurements up to step {self.measured_step}" if self.measured_step >= 0 else "no measurement yet"

    def look_at_journal(self) -> None:
        """Cut damage off the journal; what stands before it counts as measured."""
        journal = self.run.journal()
        self.measured_step = journal.last_step
        if journal.damage:
            warnings.warn(f"{journal.damage}; measuring again from step {max(0, journal.last_step)} on", stacklevel=4)
        if self.run.journal_path.exists():
            os.truncate(self.run.journal_path, journal.num_bytes)

    def first_missing(self) -> float:
        """Return the first step that is due and not recorded yet; infinity if there is none."""
        missing = [step for step in self.probe_steps if step > self.measured_step]
        missing += [step for step in self.snapshot_steps if not is_whole(path_of(step, self.run.snapshot_folder))]
        return min(missing, default=math.inf)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate, which is constant."""
        return self.recipe.learning_rate

    def loss(self, step: int) -> Tensor:
        """Return the loss on the batch of a step."""
        return self.task.loss(self.decoder, step)

    def is_due(self, step: int) -> bool:
        """Whether the network is measured or saved after this number of steps."""
        return step in self.probe_steps or step in self.snapshot_steps

    def record(self, step: int, train_loss: float | None) -> bool:
        """Measure and save what is due; whether the training loss was used."""
        is_probe = step in self.probe_steps
        if is_probe and step > self.measured_step:
            rows = self.task.measure(self.decoder)
            if train_loss is not None:
                rows.append(Row(None, None, None, "train_loss_nats", train_loss))
            if not all(math.isfinite(row.value) for row in rows):
                raise NotFinite
            append_line(self.run.journal_path, probe_line(step, rows))
            self.measured_step = step
        if step in self.snapshot_steps:
            write_snapshot(step, self.model, self.run.snapshot_folder)
        return is_probe

    def flush(self) -> None:
        """Write the journal to disk."""
        with self.run.journal_path.open("rb") as journal:
            os.fsync(journal.fileno())
