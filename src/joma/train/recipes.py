"""A training run as data: all settings that its numbers depend on, except for the data that is learned."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from joma.domains import FRACTION, POSITIVE, choose
from joma.errors import BadInput, InvalidArgument
from joma.problem.tree import Law, digest
from joma.serialization import shaped
from joma.train.decoder import DecoderConfig
from joma.train.images.pictures import Pictures
from joma.train.vision import VisionConfig


@dataclass(frozen=True)
class Recipe:
    """The settings of a run; the same recipe and data give the same numbers.

    Args:
        name: the name of the run and its folder.
        decoder: the network; a ``VisionConfig`` for pictures.
        num_steps: optimiser steps.
        learning_rate: constant learning rate.
        batch_size: sequences per step: parallel streams of a text, new samples of a law, or random pictures.
        length: tokens per sequence; for a law, its length; for pictures, their patches.
        gradient_clip: largest norm of the whole gradient.
        seed: seed of the initial weights, the dropout masks, the samples of a law, and the subjects of pictures that
            are never seen in training.
        probe_every: steps between measurements from ``early_until`` on.
        early_probe_every: steps between measurements before ``early_until``.
        early_until: the end of the early part.
        num_probe_sequences: number of held-out sequences for measurements.
        checkpoint_every: steps between checkpoints.
        snapshot_every: steps between snapshots of the weights, with the first and the last step; ``None``: none.
        weight_decay: of every weight: an L2 penalty added to the gradient of ``adam`` and ``sgd``, a share of the
            learning rate by which ``adamw`` shrinks the weights at each step.
        optimizer: ``adam``, ``adamw`` (decoupled weight decay), or ``sgd`` without momentum.
        loss: ``cross_entropy``, or ``linearised`` (``linearised_loss``), whose gradient at the logits is constant; for
            texts.
        one_query: whether only the last position of each sequence predicts, and in the last layer attends; for texts
            (for laws this is always so; for pictures never).
        shuffle_tokens: whether the tokens of a law's sequences are in random order; not for texts.
        num_threads: CPU threads; two runs with one thread each are faster than one run with two.
        device: ``cpu``, or ``auto`` for an accelerator if there is one.
    """

    name: str
    decoder: VisionConfig | DecoderConfig
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
    snapshot_every: int | None = None
    weight_decay: float = 0.0
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    loss: Literal["cross_entropy", "linearised"] = "cross_entropy"
    one_query: bool = False
    shuffle_tokens: bool = False
    num_threads: int = 1
    device: Literal["cpu", "auto"] = "cpu"

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or "/" in self.name or "\\" in self.name:
            raise _bad("name", "a name for a folder", repr(self.name), "leave out slashes")
        counts = ("num_steps", "batch_size", "probe_every", "early_probe_every", "checkpoint_every", "num_threads")
        for name in counts if self.snapshot_every is None else (*counts, "snapshot_every"):
            if getattr(self, name) < 1:
                raise _bad(name, "at least 1", f"{getattr(self, name)}", "take 1 or more")
        if self.length < 2:
            raise _bad("length", "at least 2", f"{self.length}", "take 35")
        if self.num_probe_sequences < NUM_GROUPS:
            remedy = "take 64, so that the spread over groups is meaningful"
            raise _bad("num_probe_sequences", f"at least {NUM_GROUPS}", f"{self.num_probe_sequences}", remedy)
        if self.early_until < 0:
            raise _bad("early_until", "at least 0", f"{self.early_until}", "take 0 for no early part")
        if not -(2**63) <= self.seed < 2**63:
            raise _bad("seed", "a whole number below 2^63 in size", f"{self.seed}", "take 0, 1, 2, ...")
        POSITIVE.check(self.learning_rate, "Recipe", "learning_rate")
        POSITIVE.check(self.gradient_clip, "Recipe", "gradient_clip")
        FRACTION.check(self.weight_decay, "Recipe", "weight_decay")
        FRACTION.check(self.decoder.dropout, "Recipe", "decoder.dropout")
        for name, known in (
            ("device", ("cpu", "auto")),
            ("optimizer", ("adam", "adamw", "sgd")),
            ("loss", ("cross_entropy", "linearised")),
        ):
            if getattr(self, name) not in known:
                raise _bad(name, f"one of {', '.join(known)}", repr(getattr(self, name)), "name one of these")

    def probe_steps(self) -> list[int]:
        """Return the steps after which the network is measured: often at first, every ``probe_every``, and the last."""
        early = range(0, min(self.early_until, self.num_steps + 1), self.early_probe_every)
        late = (step for step in range(0, self.num_steps + 1, self.probe_every) if step >= self.early_until)
        return sorted({*early, *late, self.num_steps})

    def snapshot_steps(self) -> list[int]:
        """Return the steps after which a snapshot is saved: 0, every ``snapshot_every``, and the last."""
        if self.snapshot_every is None:
            return []
        return sorted({*range(0, self.num_steps, self.snapshot_every), self.num_steps})

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain data for ``recipe_from_json``."""
        return asdict(self)


NUM_GROUPS = 4
"""The number of groups of positions, and of sequences, for which a probe averages attention separately."""


def recipe_from_json(data: Any) -> Recipe:
    """Rebuild a recipe from the data of ``Recipe.to_json``.

    Raises:
        BadInput: a setting is unknown, missing, of another type or out of range.
    """
    try:
        return shaped(data, Recipe)
    except BadInput:
        raise
    except ValueError as error:
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
    "constant gradient at the logits": {"loss": "linearised"},
    "constant gradient at the hidden units": {"loss": "linearised", "train_output_path": False},
    "constant gradient at the logits, linear MLP": {"loss": "linearised", "activation": "identity"},
    "SGD": {"optimizer": "sgd"},
    "no residual around the MLP": {"residual": "attention"},
    "no residual around attention": {"residual": "mlp"},
    "no residual": {"residual": "none"},
    "one query": {"one_query": True, "batch_size": 100, "num_probe_sequences": 512},
}
"""Ablations of the network by name, with the settings in which each differs from the full network.

The first remove parts. From ``frozen value path`` on they put in assumptions of the theory: constant gradients (at the
hidden units up to the LayerNorm above them, since all weights above are frozen too), plain gradient descent, one query,
and no residual connection around the MLP. A batch of one query has 100 targets instead of 700 and takes as long.
"""

VISION_VARIANTS = {
    name: settings for name, settings in VARIANTS.items() if not {"loss", "one_query", "optimizer"} & settings.keys()
}
"""Those that a network for pictures has too."""

SGD_FACTOR = 3000.0
"""How many times Adam's learning rate that of SGD is in the variant ``SGD``: 3 for 1e-3, the best of 0.3, 1, 3, 10 and
30 by the loss after 400 steps with gradients clipped at 0.5."""


def paper_figure6(
    vocabulary_size: int, *, variant: str = "full network", num_steps: int = 30_000, seed: int = 0, **settings: Any
) -> Recipe:
    """Return the recipe of the paper's Figure 6, or of one of its ``VARIANTS``.

    Args:
        vocabulary_size: number of tokens.
        variant: the network.
        num_steps: optimiser steps.
        seed: seed of weights and dropout; variants with the same seed start from the same weights.
        **settings: further fields of ``Recipe`` or of its ``DecoderConfig`` (a larger learning rate, more layers).

    Returns:
        a recipe named after variant and seed: width 200, one head, feed-forward 200, dropout 0.2, post-norm, Adam
        at 1e-4, batches of 20 × 35 tokens, gradients clipped at 0.5. With other ``settings`` give another ``name``.
    """
    if variant not in VARIANTS:
        required, remedy = f"one of {', '.join(VARIANTS)}", "name one of these"
        raise InvalidArgument("paper_figure6", "variant", required=required, received=repr(variant), remedy=remedy)
    settings = {"name": f"{variant.lower().replace(' ', '-')}_seed-{seed}"} | settings | VARIANTS[variant]
    decoder = DecoderConfig(vocabulary_size, **_pop_decoder_settings(settings))
    recipe = Recipe(decoder=decoder, num_steps=num_steps, seed=seed, **settings)
    return replace(recipe, learning_rate=SGD_FACTOR * recipe.learning_rate) if variant == "SGD" else recipe


def hierarchy_recipe(law: Law, *, num_steps: int, seed: int = 0, **settings: Any) -> Recipe:
    """Return a recipe for learning the labels of a law, with one layer for each level of latents.

    Args:
        law: a ``LatentTree``, a ``Combinatorial`` or a ``RandomHierarchy``.
        num_steps: optimiser steps; some hundreds are enough for a small law.
        seed: seed of weights and samples.
        **settings: further fields of ``Recipe`` or of its ``DecoderConfig``.

    Returns:
        a recipe named after the law and the seed: width 128, one head, feed-forward 512, ReLU, post-norm, no
        dropout (every batch is new), batches of 64 samples, gradients clipped at 0.5, 512 held-out samples, Adam at
        1e-3 with weight decay 1e-4. The paper's Table 1 has width 1024 and a learning rate of 1e-4, which takes
        some ten times the steps. With other ``settings`` give another ``name``.
    """
    wanted = _pop_decoder_settings(settings)
    of_decoder: dict[str, Any] = {
        "width": 128,
        "num_layers": len(law.level_sizes),
        "dropout": 0.0,
        "num_outputs": law.num_labels,
        **({"hidden": 512} if wanted.get("mlp", True) else {}),
    } | wanted
    of_recipe: dict[str, Any] = {
        "name": f"hierarchy-{digest(law)[:8]}_{num_steps}-steps_seed-{seed}",
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "batch_size": 64,
        "length": law.length,
        "num_probe_sequences": 512,
    } | settings
    return Recipe(decoder=DecoderConfig(law.vocabulary_size, **of_decoder), num_steps=num_steps, seed=seed, **of_recipe)


def vision_recipe(
    pictures: Pictures, *, variant: str = "full network", num_steps: int, seed: int = 0, **settings: Any
) -> Recipe:
    """Return a recipe for learning the labels of pictures with a vision Transformer.

    Args:
        pictures: what is learned.
        variant: one of ``VARIANTS`` that remove parts or freeze them; those with the same seed start from the same
            weights.
        num_steps: optimiser steps; some hundreds show most of it on drawn characters.
        seed: seed of weights and batches, and of which subjects are never seen in training.
        **settings: further fields of ``Recipe`` or of its ``VisionConfig``.

    Returns:
        a recipe named after variant and seed: 3 layers, width 64, 4 heads, feed-forward 128, ReLU, post-norm, patches
        of 4 × 4 pixels, no dropout, Adam at a constant 1e-3, batches of 64, gradients clipped at 1, 256 pictures
        for measurements. With other ``settings`` give another ``name``.
    """
    removed = choose(variant, VISION_VARIANTS, "vision_recipe", "variant")
    wanted = {**settings, **removed}
    patch_size = wanted.pop("patch_size", 4)
    of_network: dict[str, Any] = {
        "vocabulary_size": patch_size**2,
        "image_size": pictures.size,
        "patch_size": patch_size,
        "width": 64,
        "num_heads": 4,
        "num_layers": 3,
        "dropout": 0.0,
        "num_outputs": len(pictures.classes),
        **({"hidden": 128} if removed.get("mlp", True) else {}),
    } | _pop_decoder_settings(wanted)
    config = VisionConfig(**of_network)
    of_recipe: dict[str, Any] = {
        "name": f"pictures_{variant.lower().replace(' ', '-')}_{num_steps}-steps_seed-{seed}",
        "learning_rate": 1e-3,
        "batch_size": 64,
        "length": config.num_patches,
        "gradient_clip": 1.0,
        "num_probe_sequences": 256,
    } | wanted
    return Recipe(decoder=config, num_steps=num_steps, seed=seed, **of_recipe)


def _pop_decoder_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Remove the fields of ``DecoderConfig`` from ``settings`` and return them."""
    of_decoder = {field.name for field in fields(DecoderConfig)}
    return {key: settings.pop(key) for key in of_decoder & set(settings)}


def _bad(parameter: str, required: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument("Recipe", parameter, required=required, received=received, remedy=remedy)
