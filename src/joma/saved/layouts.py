"""Which files of a step are its model: those that the loader of transformers reads, and no others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from joma.errors import BadInput
from joma.saved.ranges import WRITE_AGAIN, TensorPlace
from joma.saved.stores import KINDS, WEIGHTS, WeightKind

_INDEX = ".index.json"
_LOADED: dict[str, WeightKind] = {
    "model.safetensors": "safetensors",
    "pytorch_model.bin": "bin",
    "pytorch_model.pt": "bin",
    "model.pt": "bin",
}
"""Names of a model's file, in the order in which they are looked for; each may have an index of shards instead."""

_NO_WEIGHTS = re.compile(
    r"training_args|optimizer|scheduler|scaler|rng_state|random_states|adapter_model|lora_weights", re.IGNORECASE
)
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.\w+$")

_FOREIGN: tuple[tuple[str, str, str], ...] = (
    (
        r"mp_rank_\d+_model_states\.pt|_optim_states\.pt",
        "the state of a DeepSpeed run",
        "run the zero_to_fp32.py that DeepSpeed writes next to it: python zero_to_fp32.py . model",
    ),
    (
        r"mp_rank_\d+(_\d+)*/(model_optim_rng|model_rng|distrib_optim)\.pt|(^|/)common\.pt",
        "the state of a Megatron run",
        "convert it with Megatron's tools/checkpoint/convert.py or with Megatron Bridge",
    ),
    (
        r"\.distcp|(^|/)meta\.pt",
        "the state of a distributed run (torch.distributed.checkpoint)",
        "convert it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt",
    ),
    (
        r"consolidated\.\d+\.pth",
        "weights in Meta's format",
        "convert them with convert_llama_weights_to_hf.py of transformers",
    ),
    (
        r"tf_model\.h5|flax_model(-\d+-of-\d+)?\.msgpack|\.ckpt(-\d+)?\.index|\.data-\d+-of-\d+",
        "weights of TensorFlow or Flax",
        "convert them with transformers 4: from_pretrained(..., from_tf=True) or from_flax=True, then save_pretrained",
    ),
    (
        r"\.nemo",
        "an archive of NeMo",
        "convert it with the script for its model in NeMo's scripts/checkpoint_converters",
    ),
    (r"\.npz", "weights of NumPy or MLX", "write them with safetensors.numpy.save_file"),
    (r"\.(onnx|tflite|mlmodel|pt2)", "an exported model", "take the weights from which it was exported"),
    (r"_METADATA|manifest\.ocdbt|\.zarray", "a checkpoint of Orbax", "convert it with the trainer that wrote it"),
)
"""States that are not read: a pattern of the ends of their files' names, what they are, and what converts them."""


_COMPILED, _DISTRIBUTED = "_orig_mod.", "module."
"""Prefixes that torch.compile and DistributedDataParallel add to names."""

_IN_ATTRIBUTE = re.compile(r"([^.]+\.)[^\d.][^.]*\.(?:.*\.)?\d+\.")
"""Names of tensors of a numbered layer; the group is the attribute of a module that holds the model."""


class Candidate(NamedTuple):
    """A file that may be the model, or the index of the files that may be.

    Args:
        kind: format of the weights.
        name: of the file or index.
    """

    kind: WeightKind
    name: str

    @property
    def is_index(self) -> bool:
        """Whether it names shards."""
        return self.name.endswith(_INDEX)


def candidates(files: Collection[str], stated: Any = None) -> list[Candidate]:
    """Return what may be the model of a step, first what the loader of transformers takes first.

    Args:
        files: names of the step's files.
        stated: the file or index that ``config.json`` states as ``transformers_weights``; anything else is ignored.
    """
    names = [name for usual in _LOADED for name in (usual, usual + _INDEX) if name in files]
    if isinstance(stated, str) and stated in files and _kind(stated) == "safetensors":
        names = [stated, *(name for name in names if name != stated)]
    found = [Candidate(kind, name) for name in names if (kind := _kind(name))]
    for kind in KINDS:
        held = sorted(_weights(files, kind))
        if all(candidate.kind != kind for candidate in found) and len(held) == 1 and not _num_shards(held[0]):
            found.append(Candidate(kind, held[0]))
    return found


def require_one(files: Collection[str], kind: WeightKind | None) -> None:
    """Raise ``BadInput`` for weight files of which it is unclear whether they are the model; for steps without one.

    Args:
        files: names of the step's files.
        kind: the format that is asked for; ``None`` for any.
    """
    for of in KINDS if kind is None else (kind,):
        if held := sorted(_weights(files, of)):
            which = f"there are several {of} files ({', '.join(held[:4])})"
            if len(held) == 1:
                which = f"{held[0]} is one of {_num_shards(held[0])} shards"
            raise BadInput(
                f"{which}, and no index says which belong to the model",
                expected="one file, or an index that names the shards",
                remedy="name one file" if len(held) > 1 and not _num_shards(held[0]) else WRITE_AGAIN,
            )


def shards(index: Mapping[str, Any], files: Collection[str], where: str) -> tuple[str, ...]:
    """Return the names of the files that an index names.

    Raises:
        BadInput: no index, or some of them are missing.
    """
    named = index.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise BadInput(f"{where} has an index without a weight_map", expected="a file by tensor", remedy=WRITE_AGAIN)
    found = tuple(sorted(set(named.values())))
    if missing := [name for name in found if name not in files]:
        raise _incomplete(where, f"the shard {missing[0]} is missing", found)
    return found


def require_indexed(index: Mapping[str, Any], tensors: Mapping[str, str], where: str) -> None:
    """Raise ``BadInput`` unless each tensor that an index names is in the file that it names.

    Args:
        index: as ``shards`` accepts it.
        tensors: for each tensor the file that holds it.
        where: for messages.
    """
    for name, shard in index["weight_map"].items():
        if tensors.get(name) != shard:
            other = f", but in {tensors[name]}" if name in tensors else ""
            raise _incomplete(where, f"{name} is not in {shard}{other}", set(index["weight_map"].values()))


def of_model(tensors: dict[str, TensorPlace], *, of_lightning: bool) -> dict[str, TensorPlace]:
    """Keep the model's tensors, by its own names: without joma's optimiser state and without prefixes of wrappers.

    Lightning's module is a wrapper too, of the model in one of its attributes.
    """
    ours = {name.removeprefix("model/"): place for name, place in tensors.items() if name.startswith("model/")}
    found = {name.replace(_COMPILED, ""): place for name, place in (ours or tensors).items()}
    while found and all(name.startswith(_DISTRIBUTED) for name in found):
        found = {name.removeprefix(_DISTRIBUTED): place for name, place in found.items()}
    attributes = {match[1] for match in map(_IN_ATTRIBUTE.match, found) if match}
    if of_lightning and len(attributes) == 1:
        found = {name.removeprefix(min(attributes)): place for name, place in found.items()}
    return found


def foreign(files: Collection[str]) -> tuple[str, str] | None:
    """Return what a folder without a model holds, and what to do with it; ``None`` if that is unknown."""
    for pattern, what, remedy in _FOREIGN:
        if name := next((name for name in sorted(files) if re.search(f"({pattern})$", name)), None):
            return f"{what} ({name}), and no model", remedy
    held = [name for name in sorted(files) if PurePosixPath(name).suffix in WEIGHTS and _NO_WEIGHTS.search(name)]
    if not held:
        return None
    is_adapter = any(re.search("adapter|lora", name) for name in held)
    what, remedy = ("an adapter", "merge it with its model: merge_and_unload of peft, then save_pretrained")
    if not is_adapter:
        what, remedy = "the state of a training run", "leave out this step, or wait until it is written completely"
    return f"only {what}, and no model ({', '.join(held[:4])})", remedy


def _kind(name: str) -> WeightKind | None:
    return _LOADED.get(name.removesuffix(_INDEX)) or WEIGHTS.get(PurePosixPath(name.removesuffix(_INDEX)).suffix)


def _weights(files: Collection[str], kind: WeightKind) -> Iterator[str]:
    """Yield the files at the top of a step that hold weights of one format."""
    for name in files:
        is_other = _NO_WEIGHTS.search(name) or any(re.search(f"({pattern})$", name) for pattern, _, _ in _FOREIGN)
        if WEIGHTS.get(PurePosixPath(name).suffix) == kind and "/" not in name and not is_other:
            yield name


def _num_shards(name: str) -> int:
    """Return of how many shards a file is one; 0 if it is whole."""
    found = _SHARD.search(name)
    return int(found[2]) if found and int(found[2]) > 1 else 0


def _incomplete(where: str, lacking: str, named: Collection[str]) -> BadInput:
    expected = f"the {len(named)} shards that its index names"
    return BadInput(f"{where} is incomplete: {lacking}", expected=expected, remedy=WRITE_AGAIN)
