"""Series of saved steps, in a folder or on a hub, of which only the requested tensors are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from joma.domains import choose
from joma.errors import BadInput, InvalidArgument, RunFailed
from joma.saved.folder import FolderStore
from joma.saved.gguf import quantised_places
from joma.saved.hub import HubStore
from joma.saved.pickled import pickled_places
from joma.saved.ranges import WRITE_AGAIN, Meter, RangedFile, TensorPlace
from joma.saved.reading import beginning, ends, read_places, safetensors_places
from joma.saved.stores import WEIGHTS, Store, StoredFile

Found = TypeVar("Found")
WeightKind = Literal["safetensors", "bin", "gguf"]
"""The format of weight files, in order of preference."""

_KINDS: tuple[WeightKind, ...] = get_args(WeightKind)
_USUAL = {"safetensors": ("model.safetensors",), "bin": ("pytorch_model.bin", "pytorch_model.pt", "model.pt")}
_NO_WEIGHTS = re.compile(
    r"training_args|optimizer|scheduler|scaler|rng_state|random_states|adapter_model", re.IGNORECASE
)
_COMPILED, _DISTRIBUTED = "_orig_mod.", "module."
"""Prefixes that torch.compile and DistributedDataParallel add to names."""

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
    """

    step: int
    name: str
    kind: WeightKind
    config: dict[str, Any]
    files: tuple[StoredFile, ...]
    tensors: dict[str, TensorPlace]


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
        self.source, self._store, self._meter, self._weights = store.source, store, meter, weights
        self.steps = _checked(steps, store)
        self._known: dict[int, CheckpointFiles] = {}
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
            raise InvalidArgument(
                "Series",
                "step",
                required=f"one of the {len(self.steps)} steps of {self.source}",
                received=f"{step}",
                remedy=f"take one of the nearest, {_nearest(step, self.steps)}",
            )
        return self._store.listing(step)

    def kinds(self, step: int) -> dict[WeightKind, tuple[StoredFile, ...]]:
        """The weight files of a step in each format it has, preferred first, without their indices."""
        files = self.files(step)
        found = {kind: tuple(files[name] for name in _weight_names(files, kind)) for kind in _KINDS}
        return {kind: held for kind, held in found.items() if held}

    def weight_files(self, step: int) -> tuple[StoredFile, ...]:
        """The weight files of a step in the format that is read; empty if there are none."""
        kinds = self.kinds(step)
        return kinds.get(self._weights, ()) if self._weights else next(iter(kinds.values()), ())

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
        found: dict[str, Tensor] = {}
        for file in {places[name].file: None for name in wanted}:
            here = {name: places[name] for name in wanted if places[name].file == file}
            if at_most is not None:
                here = {name: beginning(place, at_most) for name, place in here.items()}
            found |= read_places(self._store.open(step, file), here)
        return {name: found[name] for name in wanted}

    def read_ends(self, step: int, names: Collection[str], num_entries: int) -> dict[str, Tensor]:
        """Read the first and the last entries of tensors, as flat tensors.

        Args:
            step: its number.
            names: of the tensors; those that can only be read whole are left out.
            num_entries: how many to read at each end; a tensor of at most twice as many is read whole.
        """
        places = self.checkpoint(step).tensors
        parts = {name: found for name in names if (found := ends(places[name], num_entries)) is not None}
        found: dict[tuple[str, int], Tensor] = {}
        for file in {places[name].file: None for name in parts}:
            here = {
                (name, end): part for name, both in parts.items() for end, part in enumerate(both) if part.file == file
            }
            found |= read_places(self._store.open(step, file), here, gap=0)
        return {
            name: torch.cat([found[name, end].flatten() for end in range(len(both))]) for name, both in parts.items()
        }

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
        files, kinds, name = self.files(step), self.kinds(step), self._store.names[step]
        kind = next(iter(kinds), None) if self._weights is None else self._weights
        if kind is None or kind not in kinds:
            there = ", ".join(sorted(files)[:5]) or "empty"
            held = (kind is None and _without_model(files)) or f"no {kind or 'model'} weights ({there})"
            raise BadInput(
                f"{self.place(step)} holds {held}",
                expected=f"files of {' or '.join(WEIGHTS)}" if kind is None else f"one of {', '.join(kinds) or 'any'}",
                remedy="leave out this step, or wait until it is written completely",
            )
        config = self._json(step, "config.json") if "config.json" in files else {}
        if "recipe" in config:
            config = {"model_type": "joma", **config}
        tensors: dict[str, TensorPlace] = {}
        for file in kinds[kind]:
            config_in_file, places = self._contents(self._store.open(step, file.name), file.name, kind)
            config, tensors = config or config_in_file, tensors | places
        if (index := _index(files, kind)) is not None:
            _check_index(self._json(step, index), tensors, self.place(step))
        return CheckpointFiles(step, name, kind, config, kinds[kind], _of_model(tensors))

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
        file = self._store.open(step, name)
        try:
            content = json.loads(bytes(file.read(0, file.size)))
            if not isinstance(content, dict):
                raise TypeError(f"it holds a {type(content).__name__}")
        except (ValueError, TypeError, RecursionError) as error:
            problem = f"{file.name} cannot be read ({error})"
            raise BadInput(problem, expected="a JSON object", remedy=WRITE_AGAIN) from error
        return content


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
        choose(weights, dict.fromkeys(_KINDS), "open_series", "weights")
    meter, path = Meter(), Path(source).expanduser()
    if path.exists():
        for name, value in (("revisions", revisions), ("cache", cache)):
            if value is not None:
                required, remedy = "left out for a local folder", "leave it out, or name a repository of a hub"
                raise InvalidArgument("open_series", name, required=required, received=repr(value), remedy=remedy)
        return Series(FolderStore(path, meter), meter, steps, weights)
    if not _REPOSITORY.fullmatch(str(source)):
        raise BadInput(
            f"{source} is not a folder",
            expected="a folder with saved steps, or owner/name of a repository on the hub",
            remedy="check the path",
        )
    return Series(HubStore(str(source), revisions, cache, meter), meter, steps, weights)


def _checked(steps: Sequence[int] | None, store: Store) -> tuple[int, ...]:
    if steps is None:
        return tuple(store.names)
    if missing := [step for step in steps if step not in store.names]:
        raise BadInput(
            f"{store.source} has no step {missing[0]}",
            expected=f"some of its {len(store.names)} steps, from {min(store.names)} to {max(store.names)}",
            remedy=f"take one of the nearest, {_nearest(missing[0], store.names)}",
        )
    if not steps or list(steps) != sorted(set(steps)):
        in_order = ",".join(map(str, sorted(set(steps)))) or "no steps at all"
        raise BadInput(
            f"the steps {','.join(map(str, steps)) or '(none)'} are not in order",
            expected="each step once, ascending",
            remedy=f"pass {in_order}" if steps else "leave steps out for all of them",
        )
    return tuple(steps)


def _nearest(step: int, steps: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(sorted(steps, key=lambda other: abs(other - step))[:3])))


def _index(files: Collection[str], kind: WeightKind) -> str | None:
    return next((f"{name}.index.json" for name in _USUAL.get(kind, ()) if f"{name}.index.json" in files), None)


def _weight_names(files: Collection[str], kind: WeightKind) -> list[str]:
    """The files of one kind that make up the model."""
    suffixes = [suffix for suffix, of in WEIGHTS.items() if of == kind]
    held = [name for name in sorted(files) if Path(name).suffix in suffixes and not _NO_WEIGHTS.search(name)]
    if _index(files, kind) is not None:
        return [name for name in held if re.search(r"-\d+-of-\d+\.", name)]
    usual = next((name for name in _USUAL.get(kind, ()) if name in held), None)
    if usual is not None:
        return [usual]
    if len(held) > 1:
        raise BadInput(
            f"there are several {kind} files ({', '.join(held[:4])}), and no index says which belong to the model",
            expected="one file, or an index that names the shards",
            remedy="name one file",
        )
    return held


def _without_model(files: Collection[str]) -> str | None:
    """Describe the adapter or training state that a step without a model holds; ``None`` if there is neither."""
    held = [name for name in sorted(files) if Path(name).suffix in WEIGHTS and _NO_WEIGHTS.search(name)]
    if not held:
        return None
    what = "an adapter" if any("adapter" in name for name in held) else "the state of a training run"
    return f"only {what}, and no model ({', '.join(held[:4])})"


def _check_index(index: dict[str, Any], tensors: dict[str, TensorPlace], where: str) -> None:
    wanted = index.get("weight_map", {})
    missing = [name for name in wanted if name not in tensors]
    if not missing:
        return
    files = {place.file for place in tensors.values()}
    shard = wanted[missing[0]]
    lacking = f"the shard {shard} is missing" if shard not in files else f"{missing[0]} is not in {shard}"
    raise BadInput(
        f"{where} is incomplete: {lacking}",
        expected=f"the {len(set(wanted.values()))} shards that its index names",
        remedy=WRITE_AGAIN,
    )


def _of_model(tensors: dict[str, TensorPlace]) -> dict[str, TensorPlace]:
    """Keep the model's tensors, by its own names: without joma's optimiser state and without prefixes of wrappers."""
    ours = {name.removeprefix("model/"): place for name, place in tensors.items() if name.startswith("model/")}
    found = {name.replace(_COMPILED, ""): place for name, place in (ours or tensors).items()}
    while found and all(name.startswith(_DISTRIBUTED) for name in found):
        found = {name.removeprefix(_DISTRIBUTED): place for name, place in found.items()}
    return found
