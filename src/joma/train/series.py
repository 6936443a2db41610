"""Small models of well-known families that learn real text in seconds, every saved step laid out as on a hub.

A series is a folder with one folder per saved step, ``step0``, ``step1``, ``step2``, ``step4`` …, each complete in
itself: ``config.json``, ``model.safetensors``, ``tokenizer.json``. It is what the instruments for checkpoint series
are tried on, and what the claims about them are tested on where no network reaches the published ones. A journal
``saved.jsonl`` holds a digest of each step's files, so that a damaged step is made again.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from joma.devices import device_of
from joma.domains import NON_NEGATIVE, POSITIVE
from joma.errors import BadInput, InvalidArgument
from joma.files import read_json, replacing, write_json
from joma.journal import append_line, line_of, lines_of
from joma.progress import Progress, silent
from joma.threads import threads
from joma.train.loop import drive, writing
from joma.train.run import locked
from joma.train.tasks import Streams
from joma.train.text.vocabulary import Tokens, require_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS, RECIPE, SAVED = "model.safetensors", "series.json", "saved.jsonl"
_FILES = ("config.json", "tokenizer.json", WEIGHTS)
"""The files of a step, in the order in which they are written."""

_UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class SeriesRecipe:
    """A series' complete description, except the text: the same recipe and text give the same files.

    Args:
        family: ``gpt_neox``, laid out as Pythia, or ``opt``.
        num_steps: optimiser steps (AdamW); the last one is saved.
        save_every: steps between saved steps, from this one on; before it they double: 0, 1, 2, 4, ….
        learning_rate: constant throughout, after a rise over the first ``warm_up`` steps.
        warm_up: steps; 0 for none.
        batch_size: parallel streams of the text.
        length: tokens of each per step, and the model's longest context.
        num_layers, width, num_heads: the model's; its MLP is four times as wide.
        weight_decay: decoupled from the gradient, as AdamW's.
        initial_scale: factor of the family's usual standard deviation of initial weights, 0.02.
        seed: of the initial weights.
    """

    family: Literal["gpt_neox", "opt"] = "gpt_neox"
    num_steps: int = 400
    save_every: int = 32
    learning_rate: float = 1e-3
    warm_up: int = 0
    batch_size: int = 8
    length: int = 64
    num_layers: int = 3
    width: int = 64
    num_heads: int = 4
    weight_decay: float = 0.01
    initial_scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in _MODELS:
            raise _bad("family", f"one of {', '.join(_MODELS)}", repr(self.family), "name one of these")
        for name in ("num_steps", "save_every", "batch_size", "num_layers", "width", "num_heads"):
            if getattr(self, name) < 1:
                raise _bad(name, "at least 1", f"{getattr(self, name)}", "take 1 or more")
        if self.length < 2:
            raise _bad("length", "at least 2", f"{self.length}", "take 64")
        if not 0 <= self.warm_up <= self.num_steps:
            raise _bad("warm_up", f"from 0 to num_steps ({self.num_steps})", f"{self.warm_up}", "take 0 for none")
        if self.width % (2 * self.num_heads):
            remedy = "take a multiple, since every head gets as many dimensions, in pairs"
            raise _bad("width", f"a multiple of {2 * self.num_heads}", f"{self.width}", remedy)
        POSITIVE.check(self.learning_rate, "SeriesRecipe", "learning_rate")
        POSITIVE.check(self.initial_scale, "SeriesRecipe", "initial_scale")
        NON_NEGATIVE.check(self.weight_decay, "SeriesRecipe", "weight_decay")

    def saved_steps(self) -> tuple[int, ...]:
        """The steps that are saved: 0, then doubling up to ``save_every``, then evenly, and the last."""
        doubling = (1 << power for power in range(self.save_every.bit_length()))
        early = (step for step in doubling if step < min(self.save_every, self.num_steps))
        return tuple(sorted({0, *early, *range(self.save_every, self.num_steps, self.save_every), self.num_steps}))


def step_folder(folder: Path, step: int) -> Path:
    """Where a series keeps a step."""
    return folder / f"step{step}"


def train_series(
    recipe: SeriesRecipe,
    tokens: Tokens,
    tokenizer: str,
    folder: Path,
    *,
    device: Literal["cpu", "auto"] = "cpu",
    progress: Progress = silent,
) -> Path:
    """Train a model and save its series, or go on where an earlier call was stopped.

    Args:
        recipe: all that the files depend on, except the text.
        tokens: the text, numbered by the tokenizer (``tokenize`` with ``keep_ids``).
        tokenizer: the content of its ``tokenizer.json``, which every step carries.
        folder: of this series alone; created if need be.
        device: where it trains: ``auto`` for an accelerator where there is one.
        progress: called between any two steps; what it raises stops the training, which can be continued later.

    Returns:
        the folder; its files are the same to the bit each time, on one machine and one version of torch.

    Raises:
        BadInput: a text too short, or a folder that holds something else.
        RunFailed: the loss is no number any more, or the disk refuses; the steps saved so far stay.
    """
    require_tokens(tokens, recipe.batch_size, recipe.length, 1)
    place = device_of(device, "train_series")
    random = torch.random.fork_rng([place] if place.type == "cuda" else [])
    with writing(folder, lambda: "the steps saved so far"), threads(1), random:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            _claim(folder, recipe, tokens, place)
            series = _Model(recipe, tokens, tokenizer, folder, place)
            if series.first_missing() <= recipe.num_steps:
                drive(series, progress)
            shutil.rmtree(series.checkpoint_folder, ignore_errors=True)
    progress("training", recipe.num_steps, recipe.num_steps)
    return folder


def shrink_series(folder: Path) -> int:
    """Keep only the last step of a finished series, and return the number of bytes that were freed.

    ``train_series`` makes the others again, the same to the bit. A folder without a finished series stays as it is.
    """
    if not (folder / RECIPE).exists():
        return 0
    remedy = "choose the folder of a series"
    found = read_json(folder / RECIPE, dict[str, Any], expected="the recipe of a series", remedy=remedy)
    *earlier, last = SeriesRecipe(**found["recipe"]).saved_steps()
    if not (step_folder(folder, last) / WEIGHTS).exists():
        return 0
    there = [step_folder(folder, step) for step in earlier if step_folder(folder, step).exists()]
    freed = sum(path.stat().st_size for place in there for path in place.iterdir())
    for place in there:
        shutil.rmtree(place)
    return freed


class _Model:
    """A model of transformers as the loop trains it; what is recorded is the whole saved step."""

    def __init__(
        self, recipe: SeriesRecipe, tokens: Tokens, tokenizer: str, folder: Path, device: torch.device
    ) -> None:
        self.recipe, self.tokenizer, self.folder = recipe, tokenizer, folder
        self.checkpoint_folder = folder / _UNFINISHED
        torch.manual_seed(recipe.seed)
        model = _MODELS[recipe.family](recipe, len(tokens.vocabulary)).to(device).train()
        self.model: nn.Module = model
        self.config = f"{model.config.to_json_string(use_diff=False)}\n"
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.num_steps, self.checkpoint_every = recipe.num_steps, recipe.save_every
        self.gradient_clip, self.seed = 1.0, recipe.seed
        self._streams = Streams(tokens.train.to(device), recipe.batch_size, recipe.length)
        self._saved_steps = frozenset(recipe.saved_steps())
        journal, lines = folder / SAVED, list(lines_of(folder / SAVED))
        end = lines[-1].end if lines else 0
        if journal.exists() and end < journal.stat().st_size:  # a process was killed within a line
            os.truncate(journal, end)
        self._digests = {line.body.get("step"): line.body.get("digest") for line in lines if line.body}
        for step in recipe.saved_steps():
            if (step_folder(folder, step) / WEIGHTS).exists() and not self._is_saved(step):
                warnings.warn(f"step {step} of {folder} is damaged: trained again", stacklevel=4)

    @property
    def kept(self) -> str:
        there = [step for step in self.recipe.saved_steps() if self._is_saved(step)]
        return f"the saved steps up to {there[-1]}" if there else "no saved step yet"

    def first_missing(self) -> float:
        return next((step for step in self.recipe.saved_steps() if not self._is_saved(step)), math.inf)

    def learning_rate(self, step: int) -> float:
        return self.recipe.learning_rate * min(1.0, (step + 1) / max(1, self.recipe.warm_up))

    def loss(self, step: int) -> Tensor:
        inputs, targets = self._streams.window(step)
        logits = self.model(inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def is_due(self, step: int) -> bool:
        return step in self._saved_steps

    def record(self, step: int, train_loss: float | None) -> bool:
        """Let the step's folder appear whole."""
        if self._is_saved(step):
            return False
        contents = (self.config.encode(), self.tokenizer.encode(), _safetensors(dict(self.model.named_parameters())))
        if (digest := _digest(contents)) != self._digests.get(step):
            append_line(self.folder / SAVED, line_of({"step": step, "digest": digest}))
            self._digests[step] = digest
        for name, content in zip(_FILES, contents, strict=True):
            with replacing(step_folder(self.folder, step) / name) as temporary:
                temporary.write_bytes(content)
        return False

    def flush(self) -> None:
        """Every file was on disk before its name was."""

    def _is_saved(self, step: int) -> bool:
        place = step_folder(self.folder, step)
        try:
            return _digest([(place / name).read_bytes() for name in _FILES]) == self._digests.get(step)
        except OSError:
            return False


def _digest(contents: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def _safetensors(parameters: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: parameter.detach() for name, parameter in parameters.items()}, {"format": "pt"})


_ADDED = {"weight_decay": 0.01, "initial_scale": 1.0}
"""What recipes lack that were written before these were settings."""


def _claim(folder: Path, recipe: SeriesRecipe, tokens: Tokens, device: torch.device) -> None:
    """Make sure that the folder is empty or holds this very series."""
    text = {"name": tokens.name, "digest": tokens.digest}
    wanted = {"recipe": asdict(recipe), "text": text, "device": device.type}
    path = folder / RECIPE
    if path.exists():
        remedy = "choose another folder, or delete this one"
        found = read_json(path, dict[str, Any], expected="the recipe of a series", remedy=remedy)
        if isinstance(found.get("recipe"), dict):
            found["recipe"] = _ADDED | found["recipe"]
        if found == wanted:
            return
        problem = f"{folder} holds the series of another recipe, text or device"
    elif others := [entry.name for entry in folder.iterdir()]:
        problem = f"{folder} holds something that is no series ({others[0]})"
    else:
        write_json(path, wanted)
        return
    raise BadInput(problem, expected="a new or empty folder, or one of the same series", remedy="choose another folder")


_DEVIATION = 0.02


def _gpt_neox(recipe: SeriesRecipe, vocabulary_size: int) -> PreTrainedModel:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            **_shared_settings(recipe, vocabulary_size),
            intermediate_size=4 * recipe.width,
            use_parallel_residual=True,
            initializer_range=_DEVIATION * recipe.initial_scale,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
        )
    )


def _opt(recipe: SeriesRecipe, vocabulary_size: int) -> PreTrainedModel:
    from transformers import OPTConfig, OPTForCausalLM

    return OPTForCausalLM(
        OPTConfig(
            **_shared_settings(recipe, vocabulary_size),
            ffn_dim=4 * recipe.width,
            word_embed_proj_dim=recipe.width,
            pad_token_id=1,
            dropout=0.0,
            init_std=_DEVIATION * recipe.initial_scale,
        )
    )


def _shared_settings(recipe: SeriesRecipe, vocabulary_size: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary_size,
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.num_layers,
        "num_attention_heads": recipe.num_heads,
        "max_position_embeddings": recipe.length,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


_MODELS: dict[str, Callable[[SeriesRecipe, int], PreTrainedModel]] = {"gpt_neox": _gpt_neox, "opt": _opt}


def _bad(parameter: str, required: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument("SeriesRecipe", parameter, required=required, received=received, remedy=remedy)
