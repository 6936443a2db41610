"""A training run as data: everything its numbers depend on, beside the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from joma.domains import FRACTION, POSITIVE
from joma.errors import BadInput, InvalidArgument
from joma.train.decoder import DecoderConfig


@dataclass(frozen=True)
class Recipe:
    """A run's complete description; the same recipe and text give the same numbers.

    Args:
        name: of the run and its folder.
        decoder: the network.
        num_steps: optimiser steps (Adam).
        learning_rate: constant throughout.
        batch_size: parallel streams of text.
        length: tokens per sequence.
        gradient_clip: largest norm of the whole gradient.
        seed: of the initial weights and of every dropout mask.
        probe_every: steps between measurements after ``early_until``.
        early_probe_every: steps between measurements before it.
        early_until: where the early part ends.
        num_probe_sequences: held-out sequences that are measured.
        checkpoint_every: steps between checkpoints.
        num_threads: CPU threads; two runs on one thread each beat one run on two.
        device: ``cpu``, or ``auto`` for an accelerator where there is one.
    """

    name: str
    decoder: DecoderConfig
    num_steps: int
    learning_rate: float = 1e-4
    batch_size: int = 20
    length: int = 35
    gradient_clip: float = 0.5
    seed: int = 0
    probe_every: int = 100
    early_probe_every: int = 10
    early_until: int = 200
    num_probe_sequences: int = 64
    checkpoint_every: int = 500
    num_threads: int = 1
    device: Literal["cpu", "auto"] = "cpu"

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or "/" in self.name or "\\" in self.name:
            raise _bad("name", "a name for a folder", repr(self.name), "leave out slashes")
        counts = ("num_steps", "batch_size", "probe_every", "early_probe_every", "checkpoint_every", "num_threads")
        for name in counts:
            if getattr(self, name) < 1:
                raise _bad(name, "at least 1", f"{getattr(self, name)}", "take 1 or more")
        if self.length <= NUM_GROUPS:
            raise _bad("length", f"above {NUM_GROUPS}, one token for each group", f"{self.length}", "take 35")
        if self.num_probe_sequences < NUM_GROUPS:
            remedy = "take 64, so that the spread over them means something"
            raise _bad("num_probe_sequences", f"at least {NUM_GROUPS}", f"{self.num_probe_sequences}", remedy)
        if self.early_until < 0:
            raise _bad("early_until", "at least 0", f"{self.early_until}", "take 0 for no early part")
        POSITIVE.check(self.learning_rate, "Recipe", "learning_rate")
        POSITIVE.check(self.gradient_clip, "Recipe", "gradient_clip")
        FRACTION.check(self.decoder.dropout, "Recipe", "decoder.dropout")
        if self.device not in ("cpu", "auto"):
            raise _bad("device", "cpu or auto", repr(self.device), "name one of these")

    def probe_steps(self) -> list[int]:
        """The steps after which something is measured: often at first, then every ``probe_every``, and the last."""
        early = range(0, min(self.early_until, self.num_steps + 1), self.early_probe_every)
        late = (step for step in range(0, self.num_steps + 1, self.probe_every) if step >= self.early_until)
        return sorted({*early, *late, self.num_steps})

    def to_json(self) -> dict[str, Any]:
        """Plain data that ``recipe_from_json`` reads back."""
        return asdict(self)


NUM_GROUPS = 4
"""Into how many groups of positions, and of probe sequences, a probe splits what it measures."""


def recipe_from_json(data: Mapping[str, Any]) -> Recipe:
    """Rebuild what ``Recipe.to_json`` wrote.

    Raises:
        BadInput: a setting that does not exist, or one that is missing.
    """
    try:
        settings: dict[str, Any] = {**data, "decoder": DecoderConfig(**data["decoder"])}
        return Recipe(**settings)
    except (TypeError, KeyError) as error:
        raise BadInput(
            f"this is no recipe ({error})",
            expected=f"the settings {', '.join(field.name for field in fields(Recipe))}",
            remedy="let `Recipe.to_json` write it",
        ) from error


VARIANTS: dict[str, dict[str, Any]] = {
    "full network": {},
    "linear MLP": {"activation": "identity"},
    "no MLP": {"mlp": False},
    "no LayerNorm": {"layer_norm": False},
    "frozen value path": {"train_value_path": False},
}
"""The networks that tell what a curve is owed to: what each changes in the full one."""


def paper_figure6(
    vocabulary_size: int, *, variant: str = "full network", num_steps: int = 30_000, seed: int = 0, **settings: Any
) -> Recipe:
    """The setting of the paper's Figure 6, or one of its ``VARIANTS``.

    Args:
        vocabulary_size: how many tokens there are.
        variant: which network.
        num_steps: optimiser steps.
        seed: of weights and dropout; variants with one seed start from the same weights.
        **settings: further fields of ``Recipe`` or of its ``DecoderConfig`` (a larger learning rate, more layers).

    Returns:
        a recipe named after variant and seed: width 200, one head, feed-forward 200, dropout 0.2, post-norm, Adam
        at 1e-4, batches of 20 × 35 tokens, gradients clipped at 0.5. Where ``settings`` change what the name
        does not say, change the name too.
    """
    if variant not in VARIANTS:
        raise InvalidArgument(
            "paper_figure6",
            "variant",
            required=f"one of {', '.join(VARIANTS)}",
            received=repr(variant),
            remedy="name one of these",
        )
    of_decoder = {field.name for field in fields(DecoderConfig)}
    decoder = DecoderConfig(vocabulary_size, **{key: settings.pop(key) for key in of_decoder & set(settings)})
    name = settings.pop("name", f"{variant.lower().replace(' ', '-')}_seed-{seed}")
    return Recipe(name, replace(decoder, **VARIANTS[variant]), num_steps, seed=seed, **settings)


def _bad(parameter: str, required: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument("Recipe", parameter, required=required, received=received, remedy=remedy)
