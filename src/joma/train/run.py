"""The folder of a run: what is in it, whose it is, and who may write there."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from joma.errors import BadInput, RunFailed
from joma.files import write_json
from joma.journal import Journal, read_journal
from joma.problem.laws import law_from_json
from joma.problem.tree import Law
from joma.provenance import versions
from joma.records import Measurement
from joma.train.checkpoints import checkpoint_paths, path_of, read_checkpoint, read_snapshot, step_of
from joma.train.decoder import Decoder
from joma.train.recipes import Recipe, recipe_from_json

_PATIENCE_S = 10.0

_DESCRIPTIONS = ("recipe", "text", "law")
"""The parts of ``config.json`` that make one run different from another; a run has a text or a law."""


@dataclass(frozen=True)
class Run:
    """A training run, finished or not.

    Args:
        folder: holds ``config.json``, ``metrics.jsonl``, ``checkpoints/`` and, if asked for, ``snapshots/``.
        recipe: what it is.
    """

    folder: Path
    recipe: Recipe

    @property
    def journal_path(self) -> Path:
        """Where measurements are appended."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints are."""
        return self.folder / "checkpoints"

    @property
    def snapshot_folder(self) -> Path:
        """Where snapshots are."""
        return self.folder / "snapshots"

    def snapshots(self) -> list[int]:
        """The steps whose weights are on disk for good, the first first."""
        return sorted(step_of(path) for path in checkpoint_paths(self.snapshot_folder))

    def law(self) -> Law:
        """The law whose labels were learned.

        Raises:
            BadInput: a text was learned, or the configuration cannot be read.
        """
        config = _read_config(self.folder)
        if "law" not in config:
            raise BadInput(
                f"{self.folder} holds a network that learned a text",
                expected="one that learned the labels of a law",
                remedy="train one with `hierarchy_recipe`",
            )
        return law_from_json(config["law"].get("definition"))

    def journal(self) -> Journal:
        """The measurements as they stand on disk."""
        return read_journal(self.journal_path, self.recipe.probe_steps())

    def measurements(self) -> tuple[Measurement, ...]:
        """All measurements in the order they were taken, so far.

        Raises:
            RunFailed: the file is damaged.
        """
        journal = self.journal()
        if journal.damage:
            raise RunFailed(
                journal.damage,
                kept=f"the measurements up to step {journal.last_step} are whole",
                remedy="train with the same recipe and folder again: it measures the rest anew",
            )
        return tuple(Measurement(self.folder.name, step, *row) for step, rows in journal.probes for row in rows)

    def decoder(self, step: int | None = None) -> Decoder:
        """The network, ready to be looked at (evaluation mode, on the CPU).

        Args:
            step: one of ``snapshots()``; ``None`` for the newest checkpoint.

        Raises:
            BadInput: a step of which no snapshot is there.
            RunFailed: the snapshot is damaged, or there is no whole checkpoint.
        """
        if step is not None and step not in self.snapshots():
            raise BadInput(
                f"{self.folder} has no snapshot of step {step}",
                expected=f"one of {', '.join(map(str, self.snapshots())) or 'none'}",
                remedy="take one of these, or set the recipe's `snapshot_every`",
            )
        try:
            weights = self._weights(step)
        except (IndexError, ValueError) as error:
            what = "no whole checkpoint" if step is None else f"no whole snapshot of step {step}"
            raise RunFailed(
                f"{self.folder} holds {what} ({error})",
                kept="the measurements are kept",
                remedy="train with the same recipe and folder again",
            ) from error
        return Decoder.from_weights(self.recipe.decoder, weights)

    def _weights(self, step: int | None) -> dict[str, torch.Tensor]:
        if step is None:
            return read_checkpoint(checkpoint_paths(self.checkpoint_folder)[0]).model
        return read_snapshot(path_of(step, self.snapshot_folder))


def load_run(folder: Path) -> Run:
    """The run that a folder holds.

    Raises:
        BadInput: no run there, or one whose configuration cannot be read.
    """
    return Run(folder, recipe_from_json(_read_config(folder)["recipe"]))


def claim_folder(run: Run, about: Mapping[str, Mapping[str, Any]], device: torch.device) -> None:
    """Make the run's folder, or make sure that it holds this very run.

    Args:
        run: which.
        about: the data that is learned: one entry, named after its kind.
        device: where.

    Raises:
        BadInput: the folder holds another run, or something else.
    """
    path = run.folder / "config.json"
    config = _config(run.recipe, about, device)
    if not path.exists():
        others = [entry.name for entry in run.folder.iterdir() if not entry.name.startswith(".")]
        if others:
            raise BadInput(
                f"{run.folder} holds something that is no run ({others[0]})",
                expected="a new or empty folder, or one of the same run",
                remedy="choose another folder",
            )
        write_json(path, config)
        return
    there = _read_config(run.folder)
    differing = [
        f"{name} is {_short(old)} there and {_short(new)} here"
        for part in _DESCRIPTIONS
        for name, old, new in _differences(there.get(part, {}), config.get(part, {}))
    ]
    if differing:
        raise BadInput(
            f"{run.folder} holds another run: {'; '.join(differing)}",
            expected="a new folder or one of the same recipe and data",
            remedy="choose another folder, or delete this one",
        )
    seams = list(
        _differences(there["versions"] | {"device": there["device"]}, config["versions"] | {"device": config["device"]})
    )
    if seams and run.journal().last_step < run.recipe.num_steps:
        changed = ", ".join(f"{name} {old} -> {new}" for name, old, new in seams)
        warnings.warn(f"{run.folder} goes on under {changed}: its last digits may differ from one go", stacklevel=3)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Keep every other process from training in ``folder``; wait a moment for one that is just ending.

    Raises:
        BadInput: another process goes on training there.
    """
    if sys.platform == "win32":  # no flock there
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _PATIENCE_S
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
        yield
    finally:
        os.close(handle)


def _config(recipe: Recipe, about: Mapping[str, Mapping[str, Any]], device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "recipe": recipe.to_json(),
        **about,
        "versions": versions(),
        "device": name,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        parts = [part for part in (*_DESCRIPTIONS, "versions") if part in data or part in ("recipe", "versions")]
        return {part: dict(data[part]) for part in parts} | {"device": str(data["device"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read ({type(error).__name__}: {error})",
            expected="the configuration of a run",
            remedy="name the folder of a run, or delete this one and train again",
        ) from error


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
