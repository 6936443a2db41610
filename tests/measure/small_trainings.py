"""Small training runs on real text, whose saved steps are honest however unusual the training."""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from joma.train.text.reading import read_text

LENGTH, BATCH, VOCABULARY = 32, 8, 128


def warmup(share: float) -> float:
    """Return a learning rate that rises linearly from 0 over the first quarter."""
    return min(1.0, 4 * share)


def cosine(share: float) -> float:
    """Return a learning rate that falls to 0 along a cosine."""
    return (1 + math.cos(math.pi * share)) / 2


def restarts(share: float) -> float:
    """Return a learning rate that falls along a cosine three times."""
    return cosine(3 * share % 1)


def stable_then_decay(share: float) -> float:
    """Return a learning rate that falls linearly to 0 in the last fifth."""
    return min(1.0, 5 * (1 - share))


def constant(_: float) -> float:
    """Return a constant learning rate."""
    return 1.0


@dataclass(frozen=True)
class Training:
    """One training run.

    Args:
        family: of the model, ``model_type`` in transformers.
        num_layers, width: of the model.
        seed: of its initialisation and of the order of its text.
        steps: the steps to save, ascending.
        rate: the largest learning rate.
        schedule: the factor on the rate by the share of training done.
        spikes: steps in which the rate is 30 times larger.
        trained: pattern of the names of the parameters that are trained.
        unfrozen_at: the step from which all parameters are trained.
        adapters: rank of low-rank adapters of all matrices in layers, which are then trained alone; 0 for none.
        tied: whether the output shares the embedding.
        dtype: of the saved tensors.
        optimizer: ``AdamW`` or ``SGD``.
        reset_at: the step before which the optimiser's state is thrown away.
    """

    family: str = "gpt_neox"
    num_layers: int = 6
    width: int = 64
    seed: int = 0
    steps: tuple[int, ...] = tuple(range(0, 200, 10))
    rate: float = 1e-3
    schedule: Callable[[float], float] = field(default=constant)
    spikes: tuple[int, ...] = ()
    trained: str = ""
    unfrozen_at: int | None = None
    adapters: int = 0
    tied: bool = False
    dtype: torch.dtype = torch.float32
    optimizer: str = "AdamW"
    reset_at: int | None = None

    @property
    def name(self) -> str:
        """A name that differs for each training."""
        words = {key: getattr(value, "__name__", value) for key, value in vars(self).items()}
        return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


class _Adapted(nn.Module):
    """A linear layer with a low-rank adapter, with the names that the package peft gives."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        nn.init.zeros_(self.lora_B["default"].weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + 2 * self.lora_B["default"](self.lora_A["default"](x))


def model_of(training: Training) -> PreTrainedModel:
    """Return the initialised model of a training run."""
    torch.manual_seed(training.seed)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": training.width,
        "num_hidden_layers": training.num_layers,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "tie_word_embeddings": training.tied,
        "pad_token_id": None,
    }
    if training.family == "gpt2":
        sizes |= {"n_inner": 4 * training.width}
    elif training.family == "opt":
        sizes |= {"ffn_dim": 4 * training.width, "word_embed_proj_dim": training.width, "dropout": 0.0}
    else:
        sizes |= {"intermediate_size": 4 * training.width}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[training.family](**sizes))
    if training.adapters:
        model.requires_grad_(False)
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and "layers." in name:
                setattr(
                    model.get_submodule(name.rpartition(".")[0]),
                    name.rpartition(".")[2],
                    _Adapted(module, training.adapters),
                )
    return model


@cache
def _text() -> Tensor:
    return torch.tensor([min(ord(letter), VOCABULARY - 1) for letter in read_text(None).train[:1_000_000]])


def train(
    training: Training, start: dict[str, Tensor] | None = None, reverse: bool = False
) -> dict[int, dict[str, Tensor]]:
    """Return the state dicts of the saved steps.

    Args:
        training: what to train.
        start: weights to begin with; an initialisation if ``None``.
        reverse: whether the model reads each text backwards, as an example of another text.
    """
    model, text = model_of(training), _text()
    if start is not None:
        model.load_state_dict(start)
    for name, parameter in model.named_parameters():
        if not training.adapters or "lora" in name:
            parameter.requires_grad_(bool(re.search(training.trained, name)))
    parameters = list(model.parameters())
    kinds = {"AdamW": torch.optim.AdamW, "SGD": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)}
    optimizer = kinds[training.optimizer](parameters, lr=training.rate)
    generator = torch.Generator().manual_seed(training.seed)
    found = {}
    for step in range(training.steps[-1] + 1):
        if step in training.steps:
            found[step] = {name: value.to(training.dtype, copy=True) for name, value in model.state_dict().items()}
        if step == training.unfrozen_at:
            model.requires_grad_(True)
        if step == training.reset_at:
            optimizer.state.clear()
        for group in optimizer.param_groups:
            factor = training.schedule(step / training.steps[-1]) * (30 if step in training.spikes else 1)
            group["lr"] = training.rate * factor
        places = torch.randint(len(text) - LENGTH, (BATCH, 1), generator=generator) + torch.arange(LENGTH)
        tokens = text[places.flip(1) if reverse else places]
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return found


def kept(training: Training, folder: Path | None) -> dict[int, dict[str, Tensor]]:
    """Return the saved steps of a training run, which ``folder`` keeps."""
    if folder is None:
        return train(training)
    place = folder / f"{training.name}.pt"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(train(training), place)
    return torch.load(place)


_LOGARITHMIC = (0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256)

_UNUSUAL: dict[str, dict] = {
    "6 layers": {},
    "12 layers": {"num_layers": 12},
    "spike of 30 times": {"spikes": (94, 95)},
    "spike of 30 times, 12 layers": {"spikes": (94, 95), "num_layers": 12},
    "spike of 30 times, early": {"spikes": (21, 22), "rate": 3e-4},
    "spike of 30 times before the last step": {"spikes": (184, 185)},
    "two spikes of 30 times": {"spikes": (59, 60, 130, 131), "rate": 3e-3},
    "warm-up": {"schedule": warmup},
    "cosine": {"schedule": cosine, "rate": 3e-3},
    "restarts": {"schedule": restarts, "rate": 3e-3},
    "stable, then decay, in bfloat16": {"schedule": stable_then_decay, "dtype": torch.bfloat16},
    "small rate, in bfloat16": {"schedule": cosine, "rate": 1e-4, "dtype": torch.bfloat16},
    "logarithmic steps": {"steps": _LOGARITHMIC},
    "logarithmic steps, large rate": {"steps": _LOGARITHMIC, "rate": 1e-2, "num_layers": 4},
    "biases and norms alone": {"trained": r"bias|norm|ln_"},
    "frozen embeddings": {"trained": r"layers|\.h\.|norm"},
    "last layers alone": {"trained": r"\.[345]\.|head|embed_out"},
    "unfrozen between two steps": {"trained": r"\.[345]\.", "unfrozen_at": 95},
    "unfrozen at a step": {"trained": r"bias|norm|head|embed_out", "unfrozen_at": 100},
    "tied weights, in float16": {"tied": True, "dtype": torch.float16},
    "SGD": {"optimizer": "SGD", "rate": 0.1},
    "optimiser reset": {"reset_at": 100},
    "adapters": {"adapters": 4},
    "adapters, logarithmic steps": {"adapters": 4, "steps": _LOGARITHMIC, "rate": 3e-3},
}
HONEST = {
    f"{family}, {name}": Training(**{"family": family, "seed": 100 + number} | settings)
    for number, family in enumerate(("gpt_neox", "gpt2", "llama"))
    for name, settings in _UNUSUAL.items()
    if "adapters" not in settings or family != "gpt2"  # whose projections are not linear layers
}
"""Unusual but honest training runs."""
