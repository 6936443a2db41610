"""How well a network's hidden units stand for the latents of a law, and how well they did before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from joma.devices import moved
from joma.measure.latents.alignment import Alignment, alignment, alignment_matrix
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import hierarchy_of
from joma.problem.tree import Law, Samples
from joma.progress import Progress, part_of, silent
from joma.train.checkpoints import checkpoint_paths, step_of
from joma.train.decoder import Decoder, seed_of
from joma.train.hidden import pooled_hidden
from joma.train.hierarchies import seeded_samples
from joma.train.run import Run
from joma.train.vision import class_of

Matrix = list[list[Alignment]]
"""A row for each layer, in it an alignment for each level."""


@dataclass(frozen=True)
class Aligned:
    """A network and what it was before training, on the same fresh samples, which neither has seen.

    Args:
        run: whose network.
        law: whose latents.
        step: optimiser steps done.
        accuracy: share of labels predicted right.
        trained, untrained: the alignments of all layers with all levels.
        num_samples, seed: of the samples.
    """

    run: Run
    law: Law
    step: int
    accuracy: float
    trained: Matrix
    untrained: Matrix
    num_samples: int
    seed: int

    @property
    def own_layers(self) -> list[tuple[int, int]]:
        """(level, layer) for each level that has a layer of its own."""
        return [(level, level) for level in range(min(len(self.trained), len(self.law.level_sizes)))]


def aligned(
    run: Run,
    step: int | None,
    num_samples: int,
    seed: int,
    num_permutations: int,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Aligned:
    """Compare all layers with all levels, for the network of a step and the one that its training began with.

    A table has one input for each class, so shuffles exchange the latents of classes.

    Args:
        run: of a law.
        step: one of ``run.snapshots()``; ``None`` for the newest.
        num_samples: fresh ones, of a stream that no training draws from.
        seed: of the samples and of the shuffles.
        num_permutations: shuffles for chance.
        device: where networks run and units are compared; samples and shuffles are the same everywhere.
        progress: called with the number of alignments.
    """
    law, decoders = run.law(), (run.decoder(step).to(device), untrained(run).to(device))
    samples = seeded_samples(law, num_samples, seed_of(seed, "alignment"), shuffled=run.recipe.shuffle_tokens)
    samples = moved(samples, device)
    hierarchy, groups = hierarchy_of(law), None
    if isinstance(hierarchy, Combinatorial) and hierarchy.is_table:  # there, no two classes have the same latents
        groups = torch.cat(samples.presence, dim=-1).unique(dim=0, return_inverse=True)[1]
    trained, before = (
        alignment_matrix(
            pooled_hidden(decoder, samples.tokens),
            samples.presence,
            num_permutations=num_permutations,
            seed=seed,
            groups=groups,
            progress=part_of(progress, "alignment", half, 1, 2),
        )
        for half, decoder in enumerate(decoders)
    )
    reached = step_of(checkpoint_paths(run.checkpoint_folder)[0]) if step is None else step
    return Aligned(run, law, reached, _accuracy(decoders[0], samples), trained, before, num_samples, seed)


def untrained(run: Run) -> Decoder:
    """The network as it was before its first step."""
    return class_of(run.recipe.decoder)(run.recipe.decoder, run.recipe.seed).eval()


def level_by_level(
    decoder: Decoder,
    tokens: Tensor,
    presence: Sequence[Tensor],
    *,
    num_permutations: int = 1,
    groups: Tensor | None = None,
    first_layer: int = 0,
) -> list[Alignment]:
    """Alignment of the max-pooled hidden units of layer s + ``first_layer`` with the latents of level s.

    Args:
        decoder: has a layer for every level.
        tokens: (B, L).
        presence: of the latents of each level, the level just above the tokens first.
        num_permutations, groups: as in ``joma.measure.latents.alignment``.
        first_layer: where level 0 is looked for.
    """
    layers = pooled_hidden(decoder, tokens)[first_layer:]
    return [
        alignment(units, latents, num_permutations=num_permutations, groups=groups)
        for units, latents in zip(layers, presence, strict=True)
    ]


def _accuracy(decoder: Decoder, samples: Samples) -> float:
    with torch.no_grad():
        parts = [decoder(tokens, last_only=True).argmax(-1) for tokens in samples.tokens.split(512)]
    return float((torch.cat(parts) == samples.labels).double().mean())
