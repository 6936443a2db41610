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
from joma.provenance import versions
from joma.records import Measurement
from joma.train.checkpoints import checkpoint_paths, read_checkpoint
from joma.train.decoder import Decoder
from joma.train.journal import Journal, read_journal
from joma.train.recipes import Recipe, recipe_from_json
from joma.train.vocabulary import Tokens

_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Run:
    """A training run, finished or not.

    Args:
        folder: holds ``config.json``, ``metrics.jsonl`` and ``checkpoints/``.
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
        return tuple(
            Measurement(self.folder.name, step, layer, head, metric, value)
            for step, rows in journal.probes
            for layer, head, metric, value in rows
        )

    def decoder(self) -> Decoder:
        """The network as the newest checkpoint has it, ready to be looked at (evaluation mode, on the CPU).

        Raises:
            RunFailed: there is no whole checkpoint.
        """
        try:
            checkpoint = read_checkpoint(checkpoint_paths(self.checkpoint_folder)[0])
        except (IndexError, ValueError) as error:
            raise RunFailed(
                f"{self.checkpoint_folder} holds no whole checkpoint ({error})",
                kept="the measurements are kept",
                remedy="train with the same recipe and folder again",
            ) from error
        config = self.recipe.decoder
        placeholder = torch.zeros(config.vocabulary_size) if config.output_bias == "unigram" else None
        decoder = Decoder(config, self.recipe.seed, placeholder)
        decoder.load_state_dict(checkpoint.model)
        return decoder.eval()


def load_run(folder: Path) -> Run:
    """The run that a folder holds.

    Raises:
        BadInput: no run there, or one whose configuration cannot be read.
    """
    return Run(folder, recipe_from_json(_read_config(folder)["recipe"]))


def claim_folder(run: Run, tokens: Tokens, device: torch.device) -> None:
    """Make the run's folder, or make sure that it holds this very run.

    Raises:
        BadInput: the folder holds another run, or something else.
    """
    path = run.folder / "config.json"
    config = _config(run.recipe, tokens, device)
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
        f"{name} is {old!r} there and {new!r} here"
        for part in ("recipe", "text")
        for name, old, new in _differences(there[part], config[part])
    ]
    if differing:
        raise BadInput(
            f"{run.folder} holds another run: {'; '.join(differing)}",
            expected="a new folder or one of the same recipe and text",
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


def _config(recipe: Recipe, tokens: Tokens, device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "recipe": recipe.to_json(),
        "text": {"name": tokens.name, "digest": tokens.digest, "description": tokens.description},
        "versions": versions(),
        "device": name,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {part: dict(data[part]) for part in ("recipe", "text", "versions")} | {"device": str(data["device"])}
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
