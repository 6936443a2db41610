"""Small series of trained models, in the layouts of a hub and of a training loop, and faults to plant in them."""

import json
import pickle
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedModel

STEPS = (0, 4, 10, 20, 40, 60)
HUB = "models/someone/tiny@step{step}"
TRAINER = "run/checkpoint-{step}"

_VOCABULARY = 64
_SIZES = {"vocab_size": _VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def _model(family: str, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    if family == "gpt_neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES, intermediate_size=128, max_position_embeddings=32))
    sizes = _SIZES | {"ffn_dim": 128, "max_position_embeddings": 32, "word_embed_proj_dim": 32}
    return OPTForCausalLM(OPTConfig(**sizes, dropout=0.0))


@cache
def trained(
    family: str = "gpt_neox", seed: int = 0, steps: Sequence[int] = STEPS, rate: float = 1e-3
) -> dict[int, dict[str, Tensor]]:
    """Return state dicts by step of a model that learns to continue sequences that count in steps of one to four."""
    model = _model(family, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    found = {}
    for step in range(max(steps) + 1):
        if step in steps:
            found[step] = {name: value.clone() for name, value in model.state_dict().items()}
        starts, strides = torch.randint(_VOCABULARY, (8, 1)), torch.randint(1, 5, (8, 1))
        tokens = (starts + strides * torch.arange(16)) % _VOCABULARY
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
    return found


def write_series(folder: Path, layout: str = HUB, family: str = "gpt_neox", shards: bool = False) -> dict[int, Path]:
    """Save each step by ``save_pretrained``; on a hub, the last one is the main branch too."""
    places = {}
    model = _model(family, 0)
    for step, state in trained(family).items():
        model.load_state_dict(state)
        places[step] = folder / layout.format(step=step)
        model.save_pretrained(places[step], max_shard_size="60KB" if shards else "5GB")
    if layout == HUB:
        shutil.copytree(places[max(places)], folder / "models/someone/tiny")
    return places


def as_bin(place: Path, name: str = "pytorch_model.bin") -> Path:
    """Replace safetensors by a ``.bin`` file, as in older repositories."""
    torch.save(load_file(place / "model.safetensors"), place / name)
    (place / "model.safetensors").unlink()
    return place / name


def copy_weights(source: Path, target: Path) -> None:
    """Copy a step's weights to another step."""
    for file in source.glob("*.safetensors"):
        shutil.copy(file, target / file.name)


def cut_off(file: Path, kept: float = 0.6) -> None:
    """Truncate a file, as an interrupted upload does."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])


def rename_tensor(place: Path, old: str, new: str) -> None:
    """Rename a tensor."""
    tensors = load_file(place / "model.safetensors")
    tensors[new] = tensors.pop(old)
    save_file(tensors, place / "model.safetensors", {"format": "pt"})


def set_number(place: Path, name: str, number: float) -> None:
    """Change one entry of a tensor."""
    tensors = load_file(place / "model.safetensors")
    tensors[name].view(-1)[3] = number
    save_file(tensors, place / "model.safetensors", {"format": "pt"})


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


def plant_malicious(file: Path, trace: Path, as_zip: bool = True) -> None:
    """Write a ``.bin`` that runs code when it is unpickled without restrictions."""
    if as_zip:
        torch.save({"weight": torch.zeros(2), "note": Malicious(trace)}, file)
    else:
        file.write_bytes(pickle.dumps(Malicious(trace)))


def write_index(place: Path, weight_map: dict[str, str]) -> None:
    """Write an index of shards."""
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
