"""Faults planted in one step of a series: what publishing, converting and storing weights does wrong."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from small_trainings import VOCABULARY, Training, train
from torch import Tensor

State = dict[str, Tensor]
Saved = dict[int, State]

NUM_FLIPPED = 20
"""Bits that are flipped in one file."""


def matrices(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the matrices in layers."""
    return [name for name, tensor in state.items() if tensor.dim() == 2 and layer_of(name) is not None]


def layer_of(name: str) -> int | None:
    """Return the layer of a tensor."""
    found = re.search(r"(?:layers|h)\.(\d+)\.", name)
    return int(found[1]) if found else None


def of_a_layer(state: State, chance: random.Random) -> list[str]:
    """Return the names of the tensors of one layer."""
    layer = chance.choice(sorted({layer_of(name) for name in state} - {None}))
    return [name for name in state if layer_of(name) == layer]


def of_a_file(state: State, chance: random.Random) -> list[str]:
    """Return the names of the tensors in one of four files."""
    names = sorted(state)
    start = chance.randrange(4) * len(names) // 4
    return names[start : start + len(names) // 4]


def some(state: State, chance: random.Random) -> list[str]:
    """Return the names of one to five tensors, a matrix among them."""
    names = chance.sample(sorted(state), chance.randrange(5))
    return list({*names, chance.choice(matrices(state))})


def replaced(series: Saved, step: int, other: State, names: list[str]) -> None:
    """Take these tensors of one step from other weights."""
    series[step] = series[step] | {name: other[name] for name in names}


def changed(series: Saved, step: int, name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Change one tensor of one step."""
    series[step] = series[step] | {name: change(series[step][name].clone()).contiguous()}


def heads_permuted(series: Saved, step: int, chance: random.Random) -> None:
    """Permute the four heads of one layer's projection to queries, keys and values."""
    fused = [name for name in matrices(series[step]) if re.search(r"query_key_value|c_attn|q_proj", name)]
    name = chance.choice(fused)
    order = [0, 1, 2, 3]
    while order == sorted(order):
        chance.shuffle(order)

    def permuted(W: Tensor) -> Tensor:
        if "c_attn" in name:  # (width, queries | keys | values), each of all heads
            return W.view(W.shape[0], 3, 4, -1)[:, :, order].reshape(W.shape)
        return W.view(4, -1, W.shape[1])[order].reshape(W.shape)

    changed(series, step, name, permuted)


def transposed(series: Saved, step: int, chance: random.Random) -> None:
    """Transpose one square matrix."""
    square = [name for name in matrices(series[step]) if len({*series[step][name].shape}) == 1]
    changed(series, step, chance.choice(square), lambda W: W.T)


def zeroed(series: Saved, step: int, chance: random.Random) -> None:
    """Set one matrix to zero."""
    changed(series, step, chance.choice(matrices(series[step])), torch.zeros_like)


def scaled(series: Saved, step: int, chance: random.Random) -> None:
    """Multiply all weights by 1.05."""
    series[step] = {name: tensor * 1.05 for name, tensor in series[step].items()}


def one_scaled(series: Saved, step: int, chance: random.Random) -> None:
    """Multiply one matrix by 1.05."""
    changed(series, step, chance.choice(matrices(series[step])), lambda W: W * 1.05)


def nan_at_the_end(series: Saved, step: int, chance: random.Random) -> None:
    """Set the last entry of one matrix to NaN."""

    def ending(W: Tensor) -> Tensor:
        W.view(-1)[-1] = math.nan
        return W

    changed(series, step, chance.choice(matrices(series[step])), ending)


def flipped_bits(series: Saved, step: int, chance: random.Random) -> None:
    """Flip bits anywhere in the data of one step."""
    names = list(series[step])
    sizes = [series[step][name].nbytes for name in names]
    for _ in range(NUM_FLIPPED):
        name = chance.choices(names, sizes)[0]

        def flipped(W: Tensor) -> Tensor:
            raw = W.contiguous().view(-1).view(torch.uint8)
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            return W

        changed(series, step, name, flipped)


def fine_tuned(base: Base, series: Saved, step: int, chance: random.Random) -> None:
    """Train one step's weights on other text, for as many steps as between two saves, before they are saved."""
    num_steps = max(10, base.training.steps[1])
    settings = vars(base.training) | {"steps": (0, num_steps), "seed": base.training.seed + 1}
    series[step] = train(Training(**settings), start=series[step], reverse=True)[num_steps]


@dataclass(frozen=True)
class Base:
    """An honest series, and another training run of the same model with the same steps."""

    training: Training
    series: Saved
    others: Saved

    def later(self, step: int, chance: random.Random) -> State:
        """Return the weights of another step of the series."""
        return self.series[chance.choice([other for other in self.series if other != step])]


Fault = Callable[[Base, Saved, int, random.Random], None]


def alone(change: Callable[[Saved, int, random.Random], None]) -> Fault:
    """Return a fault that needs no other weights."""
    return lambda base, series, step, chance: change(series, step, chance)


def part(names: Callable[[State, random.Random], list[str]], *, foreign: bool) -> Fault:
    """Return a fault that takes a part of another step or of another training run."""

    def fault(base: Base, series: Saved, step: int, chance: random.Random) -> None:
        other = base.others[step] if foreign else base.later(step, chance)
        replaced(series, step, other, names(series[step], chance))

    return fault


def exchanged(base: Base, series: Saved, step: int, chance: random.Random) -> None:
    """Exchange a step and the next, or the one before if it is the last."""
    steps = sorted(series)
    other = steps[(steps.index(step) + 1) % len(steps)] if step != steps[-1] else steps[-2]
    series[step], series[other] = series[other], series[step]


def whole(base: Base, series: Saved, step: int, chance: random.Random) -> None:
    """Take all weights of another step."""
    series[step] = dict(base.later(step, chance))


def foreign(base: Base, series: Saved, step: int, chance: random.Random) -> None:
    """Take all weights of another training run."""
    series[step] = dict(base.others[step])


def from_here(base: Base, series: Saved, step: int, chance: random.Random) -> None:
    """Go on with another training run."""
    for other in series:
        if other >= step:
            series[other] = dict(base.others[other])


def of_the_layer(change: Callable[[Tensor], Tensor]) -> Fault:
    """Return a fault that changes all tensors of one layer."""

    def fault(base: Base, series: Saved, step: int, chance: random.Random) -> None:
        for name in of_a_layer(series[step], chance):
            changed(series, step, name, change)

    return fault


FAULTS: dict[str, Fault] = {
    "some tensors are another step's": part(some, foreign=False),
    "a file of four is another step's": part(of_a_file, foreign=False),
    "a layer is another step's": part(of_a_layer, foreign=False),
    "some tensors are another training's": part(some, foreign=True),
    "a file of four is another training's": part(of_a_file, foreign=True),
    "a layer is another training's": part(of_a_layer, foreign=True),
    "heads permuted in one projection": alone(heads_permuted),
    "one matrix transposed": alone(transposed),
    "one matrix zeroed": alone(zeroed),
    "one matrix x 1.05": alone(one_scaled),
    "everything x 1.05": alone(scaled),
    "NaN at the end of a matrix": alone(nan_at_the_end),
    "20 flipped bits": alone(flipped_bits),
    "fine-tuned on top": fine_tuned,
    "neighbours exchanged": exchanged,
    "all of it is another step's": whole,
    "all of it is another training's": foreign,
    "another training from here on": from_here,
    "a layer with its sign flipped": of_the_layer(torch.neg),
    "a layer doubled": of_the_layer(lambda W: 2 * W),
}
"""Changes of the weights, by what they are; a missing step and another tokenizer are planted in files."""

MISSING, TOKENIZER = "a step missing in an even row", "another tokenizer"


def write(series: Saved, folder: Path) -> Path:
    """Write a series of safetensors files, as Trainer names their folders."""
    for step, state in series.items():
        place = folder / f"checkpoint-{step}"
        place.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, place / "model.safetensors")
    return folder


def write_tokenizers(folder: Path, series: Saved, odd: int | None = None) -> None:
    """Write a tokenizer next to each step; the vocabulary of step ``odd`` has another order."""
    words = [chr(code) for code in range(32, 32 + VOCABULARY)]
    for step in series:
        order = words if step != odd else words[::-1]
        model = {"type": "BPE", "vocab": {word: index for index, word in enumerate(order)}, "merges": []}
        (folder / f"checkpoint-{step}" / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}))
