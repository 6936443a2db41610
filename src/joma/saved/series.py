"""Series of saved steps, in a folder or on a hub, of which only the requested tensors are read."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from joma.domains import choose
from joma.errors import BadInput, InvalidArgument, RunFailed
from joma.files import expanded
from joma.saved.folder import FolderStore
from joma.saved.gguf import quantised_places
from joma.saved.hub import HubStore
from joma.saved.layouts import Candidate, candidates, foreign, of_model, require_indexed, require_one, shards
from joma.saved.pickled import pickled_places
from joma.saved.ranges import Meter, RangedFile, TensorPlace
from joma.saved.reading import GAP, Name, beginning, differ, ends, json_of, read_places, safetensors_places
from joma.saved.stores import KINDS, WEIGHTS, Store, StoredFile, WeightKind, checked_steps, in_words, nearest_steps

Found = TypeVar("Found")

_NUM_COMPARED, _NUM_ENTRIES = 8, 1024
"""Tensors, and entries of each, in which two candidates for a step's model are compared."""

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class CheckpointFiles:
    """The contents of a saved step.

    Args:
        step: number of optimiser steps done.
        name: its folder, file or revision.
        kind: format of its weights.
        config: the contents of ``config.json``; empty if there is no such file.
        files: its weight files with their sizes and, on a hub, hashes.
        tensors: position, dtype and shape of each tensor, by its name in the state dict.
        notes: other files that may be the model too and differ from it.
    """

    step: int
    name: str
    kind: WeightKind
    config: dict[str, Any]
    files: tuple[StoredFile, ...]
    tensors: dict[str, TensorPlace]
    notes: tuple[str, ...] = ()


class Series:
    """Saved steps of one training run, each read in parts.

    Args:
        store: holds the steps.
        meter: counts the bytes read.
        steps: the steps to use, ascending; ``None`` for all.
        weights: the format to read if a step has several; ``None`` for the first in order of preference.
    """

    def __init__(
        self, store: Store, meter: Meter, steps: Sequence[int] | None = None, weights: WeightKind | None = None
    ) -> None:
        self.source, self._store, self._meter, self.weights = store.source, store, meter, weights
        self.steps = checked_steps(steps, store)
        self._known: dict[int, CheckpointFiles] = {}
        self._jsons: dict[tuple[int, str], dict[str, Any]] = {}
        self._header_length = 1 << 14

    @property
    def numbered(self) -> bool:
        """Whether the steps' names contain step numbers; a single model without one is step 0, not initialisation."""
        return self._store.numbered

    @property
    def names(self) -> dict[int, str]:
        """Each step's folder, file or revision."""
        return {step: self._store.names[step] for step in self.steps}

    @property
    def is_local(self) -> bool:
        """Whether the steps lie in a local folder and not on a hub."""
        return isinstance(self._store, FolderStore)

    @property
    def is_selection(self) -> bool:
        """Whether there are more steps than the ones to use."""
        return len(self.steps) < len(self._store.names)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Folders, files or revisions that look like steps, but whose names are not understood."""
        return self._store.left_out

    @property
    def bytes_read(self) -> int:
        """The number of bytes of configurations, tables of contents and tensors read so far."""
        return self._meter.bytes_read

    @property
    def bytes_stored(self) -> int:
        """The total size in bytes of the weight files of all steps read so far, in the format that was read."""
        return sum(file.size for checkpoint in self._known.values() for file in checkpoint.files)

    def place(self, step: int) -> str:
        """Describe a step for messages: its number, its series, and its folder, file or revision."""
        return f"step {step} of {self.source} ({self._store.names[step]})"

    def files(self, step: int) -> dict[str, StoredFile]:
        """The files of a step by name, with their sizes and, on a hub, hashes.

        Raises:
            InvalidArgument: the series has no such step.
        """
        if step not in self.steps:
            required = f"one of the {len(self.steps)} steps of {self.source}"
            remedy = f"take one of the nearest, {nearest_steps(step, self.steps)}"
            raise InvalidArgument("Series", "step", required=required, received=str(step), remedy=remedy)
        return self._store.listing(step)

    def kinds(self, step: int) -> dict[WeightKind, tuple[StoredFile, ...]]:
        """The weight files of a step in each format it has, first the one that transformers loads, without indices."""
        found: dict[WeightKind, tuple[StoredFile, ...]] = {}
        for candidate in candidates(self.files(step), self._config(step).get("transformers_weights")):
            if candidate.kind not in found:
                found[candidate.kind] = self._files_of(step, candidate)
        return found

    def weight_files(self, step: int) -> tuple[StoredFile, ...]:
        """The weight files of a step in the format that is read; empty if there are none."""
        found = self._candidates(step)
        return self._files_of(step, found[0]) if found else ()

    def checkpoint(self, step: int) -> CheckpointFiles:
        """Read the configuration and the tables of contents of a step, but no tensor.

        Raises:
            BadInput: its weights are missing or incomplete.
            RunFailed: the hub does not answer.
        """
        if step not in self._known:
            self._known[step] = self._looked_up(step)
        return self._known[step]

    def read(self, step: int, names: Collection[str] | None = None, *, at_most: int | None = None) -> dict[str, Tensor]:
        """Read tensors of a step.

        Args:
            step: its number.
            names: of the tensors; ``None`` for all.
            at_most: read only this many entries of each contiguous tensor, from its start, as a flat tensor.

        Returns:
            The tensors by name, in the order of ``names``.

        Raises:
            BadInput: no such tensor, or one that cannot be read.
            RunFailed: the hub does not answer.
        """
        places = self.checkpoint(step).tensors
        wanted = list(places if names is None else names)
        if missing := [name for name in wanted if name not in places]:
            near = get_close_matches(missing[0], places, n=3) or list(places)[:3]
            raise BadInput(
                f"step {step} of {self.source} has no tensor {missing[0]!r}",
                expected=f"one of its {len(places)} (nearest: {', '.join(near)})",
                remedy="check that all steps are of the same model: joma scan --verify",
            )
        cut = {name: places[name] if at_most is None else beginning(places[name], at_most) for name in wanted}
        return self._read(step, cut)

    def read_ends(self, step: int, names: Collection[str], num_entries: int) -> dict[str, Tensor]:
        """Read the first and the last entries of tensors, as flat tensors.

        Args:
            step: its number.
            names: of the tensors; those that can only be read whole are left out.
            num_entries: how many to read at each end; a tensor of at most twice as many is read whole.
        """
        places = self.checkpoint(step).tensors
        parts = {name: found for name in names if (found := ends(places[name], num_entries)) is not None}
        found = self._read(step, {(name, end): part for name in parts for end, part in enumerate(parts[name])}, gap=0)
        return {name: torch.cat([found[name, end].flatten() for end in range(len(parts[name]))]) for name in parts}

    def _read(self, step: int, places: Mapping[Name, TensorPlace], gap: int = GAP) -> dict[Name, Tensor]:
        """Read tensors of several files, with one request for those at most ``gap`` bytes apart."""
        found: dict[Name, Tensor] = {}
        for file in {place.file: None for place in places.values()}:
            here = {name: place for name, place in places.items() if place.file == file}
            found |= read_places(self._store.open(step, file), here, gap)
        return {name: found[name] for name in places}

    def content(self, step: int, name: str) -> bytes:
        """Read one file of a step."""
        file = self._store.open(step, name)
        return bytes(file.read(0, file.size))

    def last(self, look: Callable[[int], Found]) -> Found:
        """Return ``look(step)`` for the last step where it succeeds; a killed run may leave an incomplete last step.

        Raises:
            BadInput, RunFailed: it fails at the first step too; the error is that of the first step.
        """
        for step in reversed(self.steps[1:]):
            try:
                return look(step)
            except (BadInput, RunFailed):  # measuring this step will report it
                continue
        first = self.steps[0]
        try:
            return look(first)
        except BadInput as error:
            named = "" if self.place(first) in error.problem else f"{self.place(first)}: "
            later = ", and all later steps fail too" if self.steps[1:] else ""
            raise BadInput(f"{named}{error.problem}{later}", expected=error.expected, remedy=error.remedy) from error

    def _looked_up(self, step: int) -> CheckpointFiles:
        config = self._config(step)
        found = self._candidates(step)
        if not found:
            raise self._without_model(step)
        chosen, *others = found
        files = self._files_of(step, chosen)
        config_in_file, tensors = self._tables(step, chosen, files)
        if "recipe" in config:
            config = {"model_type": "joma", **config}
        notes = tuple(note for other in others if (note := self._compared(step, chosen, tensors, other)) is not None)
        for note in notes:
            warnings.warn(f"{self.place(step)}: {note}", stacklevel=4)
        name = self._store.names[step]
        return CheckpointFiles(step, name, chosen.kind, config or config_in_file, files, tensors, notes)

    def _config(self, step: int) -> dict[str, Any]:
        return self._json(step, "config.json") if "config.json" in self.files(step) else {}

    def _candidates(self, step: int) -> list[Candidate]:
        """What may be the model of a step in the requested format, first what is read."""
        found = candidates(self.files(step), self._config(step).get("transformers_weights"))
        return [candidate for candidate in found if self.weights in (None, candidate.kind)]

    def _files_of(self, step: int, candidate: Candidate) -> tuple[StoredFile, ...]:
        files = self.files(step)
        index = self._json(step, candidate.name) if candidate.is_index else None
        names = (candidate.name,) if index is None else shards(index, files, self.place(step))
        return tuple(files[name] for name in names)

    def _tables(
        self, step: int, candidate: Candidate, files: Iterable[StoredFile]
    ) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
        """Read the tables of contents of files; a configuration is in GGUF alone."""
        config: dict[str, Any] = {}
        tensors: dict[str, TensorPlace] = {}
        for file in files:
            config, places = self._contents(self._store.open(step, file.name), file.name, candidate.kind)
            if twice := tensors.keys() & places.keys():
                name = min(twice)
                raise BadInput(
                    f"{self.place(step)} has {name} twice, in {tensors[name].file} and in {file.name}",
                    expected="each tensor in one shard",
                    remedy="remove the shards of another model",
                )
            tensors |= places
        if candidate.is_index:
            held = {name: place.file for name, place in tensors.items()}
            require_indexed(self._json(step, candidate.name), held, self.place(step))
        return config, of_model(tensors, of_lightning=candidate.name.endswith(".ckpt"))

    def _compared(self, step: int, chosen: Candidate, ours: dict[str, TensorPlace], other: Candidate) -> str | None:
        """Describe how another candidate differs from the chosen one; ``None`` if no difference is found.

        Another format on a hub, which would take many requests, is not compared.
        """
        with suppress(BadInput):  # a file that cannot be read is no other model
            files = self._files_of(step, other)
            if other.kind != chosen.kind and any(file.digest for file in files):
                return None
            _, theirs = self._tables(step, other, files)
            both = f"{chosen.name} is read, as transformers does, but {other.name}"
            shared = [name for name in ours if name in theirs]
            # Formats differ in which of two tied tensors they hold.
            if not shared or (other.kind == chosen.kind and ours.keys() != theirs.keys()):
                return f"{both} has other tensors ({len(shared)} of {len(ours)} names are the same)"
            for name in shared[:: max(1, len(shared) // _NUM_COMPARED)]:
                here, there = (
                    read_places(self._store.open(step, place.file), {name: place})[name]
                    for place in (beginning(table[name], _NUM_ENTRIES) for table in (ours, theirs))
                )
                if differ(here, there):
                    return f"{both} has other numbers (in {name})"
        return None

    def _without_model(self, step: int) -> BadInput:
        """The error for a step without weights, or without those that were asked for."""
        files = self.files(step)
        other = sorted({candidate.kind for candidate in candidates(files)})
        require_one(files, self.weights)
        held = f"no {self.weights or 'model'} weights ({', '.join(sorted(files)[:5]) or 'empty'})"
        expected = f"one of {', '.join(other)}" if other else f"files of {' or '.join(WEIGHTS)}"
        remedy = "read the weights it has: leave out `weights`, or leave out this step"
        if not other:
            remedy = "leave out this step, or wait until it is written completely"
            held, remedy = foreign(files) or (held, remedy)
        return BadInput(f"{self.place(step)} holds {held}", expected=expected, remedy=remedy)

    def _contents(self, file: RangedFile, name: str, kind: WeightKind) -> tuple[dict, dict[str, TensorPlace]]:
        if kind == "gguf":
            return quantised_places(file, name)
        if kind == "bin":
            return {}, pickled_places(file, name)
        places = safetensors_places(file, name, self._header_length)
        # Headers of one series have nearly the same length, so that one request most likely gets all of the next one.
        self._header_length = min((place.start for place in places.values()), default=self._header_length) + 64
        return {}, places

    def _json(self, step: int, name: str) -> dict[str, Any]:
        if (step, name) not in self._jsons:
            self._jsons[step, name] = json_of(self._store.open(step, name))
        return self._jsons[step, name]


def open_series(
    source: str | Path,
    *,
    steps: Sequence[int] | None = None,
    revisions: str | Sequence[str] | None = None,
    weights: WeightKind | None = None,
    cache: Path | None = None,
) -> Series:
    """Find the saved steps in a folder or a hub repository, without reading a model.

    >>> import joma
    >>> from transformers import GPT2Config, GPT2Model
    >>> model = GPT2Model(GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4))
    >>> for step in (0, 100):
    ...     model.save_pretrained(f"checkpoints/step{step}")
    >>> series = joma.open_series("checkpoints")
    >>> series.steps
    (0, 100)
    >>> series.read(100, ["h.0.mlp.c_fc.weight"])["h.0.mlp.c_fc.weight"].shape
    torch.Size([32, 128])

    Args:
        source: a folder (a run of joma, Trainer's, step-named), a weight file, or ``owner/name`` on a hub.
        steps: the steps to use, ascending; ``None`` for all.
        revisions: on a hub, a pattern such as ``stage1-*`` or names; ``None`` for all with a step in their names.
        weights: ``safetensors``, ``bin`` or ``gguf``; ``None`` for the first of these that a step has.
        cache: on a hub, a folder that keeps downloads; nothing is written to disk if ``None``.

    Raises:
        BadInput: the source has no model or lacks a step or revision, or the steps are not ascending.
        RunFailed: the hub does not answer.
    """
    if weights is not None:
        choose(weights, dict.fromkeys(KINDS), "open_series", "weights")
    if not isinstance(source, str | os.PathLike) or "\0" in str(source):
        required, received = "a path, or owner/name of a repository on the hub", repr(source)[:60]
        raise InvalidArgument("open_series", "source", required=required, received=received, remedy="pass text")
    meter, path = Meter(), expanded(source)
    if path.exists():
        for name, value in (("revisions", revisions), ("cache", cache)):
            if value is not None:
                required, remedy = "left out for a local folder", "leave it out, or name a repository of a hub"
                raise InvalidArgument("open_series", name, required=required, received=repr(value), remedy=remedy)
        return _series(FolderStore(path, meter), meter, steps, weights)
    if not _REPOSITORY.fullmatch(str(source)):
        raise BadInput(
            f"{source} is not a folder",
            expected="a folder with saved steps, or owner/name of a repository on the hub",
            remedy="check the path",
        )
    return _series(HubStore(str(source), revisions, cache, meter), meter, steps, weights)


def _series(store: Store, meter: Meter, steps: Sequence[int] | None, weights: WeightKind | None) -> Series:
    """Return a series, with a warning about what is not part of it."""
    if store.left_out:
        warnings.warn(
            f"{store.source}: left out {in_words(store.left_out)}, because no step is understood in the name; rename "
            "it, such as to step500, to include it",
            stacklevel=3,
        )
    return Series(store, meter, steps, weights)
