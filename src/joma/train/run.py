"""The folder of a run: its files, its configuration, and its lock."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from joma.errors import BadInput, RunFailed, cause_of
from joma.files import read_json, write_json
from joma.journal import Journal, read_journal
from joma.problem.laws import law_from_json
from joma.problem.tree import Law
from joma.provenance import versions
from joma.records import Measurement
from joma.serialization import CHECKSUM, sealed, shaped, unsealed
from joma.train.checkpoints import (
    checkpoint_paths,
    path_of,
    read_checkpoint,
    read_snapshot,
    step_of,
    write_checkpoint,
)
from joma.train.decoder import Decoder
from joma.train.recipes import Recipe, recipe_from_json
from joma.train.vision import class_of

_WAIT_SECONDS = 10.0

_DESCRIPTIONS = ("recipe", "text", "law", "pictures")
"""The entries of ``config.json`` that identify a run; a run has a text, a law or pictures."""


@dataclass(frozen=True)
class Config:
    """The content of ``config.json``.

    Args:
        recipe: as ``Recipe.to_json`` returns it.
        versions: of the software that trained the network, by name.
        device: that the network was trained on.
        text, law, pictures: the data that was learned; all but one are empty.
    """

    recipe: dict[str, Any]
    versions: dict[str, str]
    device: str
    text: dict[str, Any] = field(default_factory=dict)
    law: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)


def config_of(data: Mapping[str, Any]) -> Config:
    """Return the content of a ``config.json``, in which other entries may stand too.

    Raises:
        ValueError: it has another shape, or its checksum is wrong; one that was written without a checksum has none.
    """
    body = {name: value for name, value in data.items() if name != "model_type"}  # which ``joma.saved`` adds
    body = unsealed(body) if CHECKSUM in body else body
    return shaped({name: value for name, value in body.items() if name in Config.__dataclass_fields__}, Config)


@dataclass(frozen=True)
class Run:
    """A training run, finished or not.

    Args:
        folder: contains ``config.json``, ``metrics.jsonl``, ``checkpoints/`` and, if any are saved, ``snapshots/``.
        recipe: the settings of the run.
    """

    folder: Path
    recipe: Recipe

    @property
    def journal_path(self) -> Path:
        """The file of the measurements."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def snapshot_folder(self) -> Path:
        """The folder of the snapshots."""
        return self.folder / "snapshots"

    def snapshots(self) -> list[int]:
        """Return the steps of all snapshots, in ascending order."""
        return sorted(step_of(path) for path in checkpoint_paths(self.snapshot_folder))

    def law(self) -> Law:
        """Return the law whose labels were learned.

        Raises:
            BadInput: a text was learned, or the configuration cannot be read.
        """
        law = _read_config(self.folder).law
        if not law:
            what, remedy = (
                "pictures" if _read_config(self.folder).pictures else "a text",
                "train one with `hierarchy_recipe`",
            )
            problem = f"{self.folder} holds a network that learned {what}"
            raise BadInput(problem, expected="one that learned the labels of a law", remedy=remedy)
        return law_from_json(law.get("definition"))

    def journal(self) -> Journal:
        """Read the measurements from disk, damaged or not; lines that a checkpoint proves to be lost are damage."""
        steps, saved = self.recipe.probe_steps(), checkpoint_paths(self.checkpoint_folder)[:1]
        journal = read_journal(self.journal_path, steps)
        lost = [step for step in steps for path in saved if journal.last_step < step <= step_of(path)]
        if journal.damage or not lost:
            return journal
        ends = f"ends at step {journal.last_step}" if journal.probes else "is empty or missing"
        return replace(journal, damage=f"{self.journal_path} {ends}, but {saved[0].name} was saved later")

    def measurements(self) -> tuple[Measurement, ...]:
        """Return all measurements so far, in chronological order.

        Raises:
            RunFailed: the file is damaged.
        """
        journal = self.journal()
        if journal.damage:
            kept = f"the measurements up to step {journal.last_step} are intact"
            remedy = "train with the same recipe and folder again, which repeats the others"
            raise RunFailed(journal.damage, kept=kept, remedy=remedy)
        return tuple(Measurement(self.folder.name, step, *row) for step, rows in journal.probes for row in rows)

    def decoder(self, step: int | None = None) -> Decoder:
        """Return the network in evaluation mode, on the CPU.

        Args:
            step: one of ``snapshots()``; ``None`` for the newest checkpoint.

        Raises:
            BadInput: there is no snapshot of the step.
            RunFailed: the snapshot or checkpoint is damaged, or there is no checkpoint.
        """
        if step is not None and step not in self.snapshots():
            raise BadInput(
                f"{self.folder} has no snapshot of step {step}",
                expected=f"one of {', '.join(map(str, self.snapshots())) or 'none'}",
                remedy="take one of these, or set the recipe's `snapshot_every` and train again: "
                "`joma reproduce` keeps snapshots only with --keep",
            )
        try:
            if step is None:
                weights = read_checkpoint(checkpoint_paths(self.checkpoint_folder)[0]).model
            else:
                weights = read_snapshot(path_of(step, self.snapshot_folder))
            return class_of(self.recipe.decoder).from_weights(self.recipe.decoder, weights)
        except (IndexError, ValueError, RuntimeError) as error:
            what = "no intact checkpoint" if step is None else f"no intact snapshot of step {step}"
            kept, remedy = "the measurements are kept", "train with the same recipe and folder again"
            raise RunFailed(f"{self.folder} holds {what} ({cause_of(error)})", kept=kept, remedy=remedy) from error


def load_run(folder: Path) -> Run:
    """Return the run in a folder.

    Raises:
        BadInput: the configuration of a run cannot be read there.
    """
    return Run(folder, recipe_from_json(_read_config(folder).recipe))


def shrink_run(run: Run) -> int:
    """Keep only the last weights of a finished run, and return the number of bytes that were freed.

    The optimiser's state, earlier checkpoints and snapshots are removed; the run can be trained again to the bit. A run
    that is not finished, or whose last checkpoint is damaged, stays as it is.

    Raises:
        BadInput: another process is training in the folder.
    """
    with locked(run.folder):
        saved, journal = checkpoint_paths(run.checkpoint_folder), run.journal()
        is_measured = not journal.damage and journal.last_step == max(run.recipe.probe_steps())
        if not is_measured or not saved or step_of(saved[0]) != run.recipe.num_steps:
            return 0
        try:
            last = read_checkpoint(saved[0])
        except ValueError:
            return 0
        more = [*saved[1:], *checkpoint_paths(run.snapshot_folder)]
        freed = sum(path.stat().st_size for path in [*more, saved[0]])
        if last.optimizer:
            write_checkpoint(replace(last, optimizer={}), run.checkpoint_folder)
        for path in more:
            path.unlink(missing_ok=True)
        return freed - saved[0].stat().st_size


def claim_folder(run: Run, about: Mapping[str, dict[str, Any]], device: torch.device) -> None:
    """Write the configuration into a new folder, or check that the folder holds the same run.

    Args:
        run: the run.
        about: the data that is learned, under the name of its kind (``text``, ``law`` or ``pictures``).
        device: the device of the network.

    Raises:
        BadInput: the folder contains another run or other files.
    """
    path = run.folder / "config.json"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    config = Config(run.recipe.to_json(), versions(), name, **about)
    if not path.exists():
        others = [entry.name for entry in run.folder.iterdir() if not entry.name.startswith(".")]
        if others:
            problem, expected = f"{run.folder} contains other files ({others[0]})", "an empty folder or the same run"
            raise BadInput(problem, expected=expected, remedy="choose another folder")
        write_json(path, sealed({part: value for part, value in asdict(config).items() if value}))
        return
    there = _read_config(run.folder)
    newer = {"recipe": recipe_from_json(there.recipe).to_json(), "text": there.text and config.text | there.text}
    there = replace(there, **newer)  # with entries that are newer than the run
    differing = [
        f"{name} is {_short(old)} there and {_short(new)} here"
        for part in _DESCRIPTIONS
        for name, old, new in _differences(getattr(there, part), getattr(config, part))
    ]
    if differing:
        problem, expected = f"{run.folder} holds another run: {'; '.join(differing)}", "a new folder or the same run"
        raise BadInput(problem, expected=expected, remedy="choose another folder, or delete this one")
    before, now = (found.versions | {"device": found.device} for found in (there, config))
    changed = ", ".join(f"{name} {old} -> {new}" for name, old, new in _differences(before, now))
    if changed and run.journal().last_step < run.recipe.num_steps:
        warnings.warn(f"{run.folder} is continued with {changed}: numbers may differ in the last digits", stacklevel=3)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Lock ``folder`` against other processes; wait some seconds for a process that is about to end.

    Raises:
        BadInput: another process is training in the folder, or removed it.
    """
    if sys.platform == "win32":  # has no flock
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BadInput(
                        f"another process is training in {folder}",
                        expected="one at a time",
                        remedy="wait for it, stop it, or choose another folder",
                    ) from None
                time.sleep(0.05)
        if not folder.exists() or not os.path.samestat(os.fstat(handle), os.stat(folder)):
            problem, remedy = f"another process has removed {folder}, which was empty", "run it again"
            raise BadInput(problem, expected="a folder that is kept", remedy=remedy)
        yield
    finally:
        os.close(handle)


def _read_config(folder: Path) -> Config:
    path, expected = folder / "config.json", "the configuration of a run"
    remedy = "name the folder of a run, or delete this one and train again"
    data = read_json(path, dict[str, Any], expected=expected, remedy=remedy)
    try:
        return config_of(data)
    except ValueError as error:
        raise BadInput(f"{path} cannot be read ({cause_of(error)})", expected=expected, remedy=remedy) from error


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from ((f"{name}.{inner}", *values) for inner, *values in _differences(old, new))
        elif old != new:
            yield name, old, new


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
