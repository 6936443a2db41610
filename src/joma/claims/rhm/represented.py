"""What the layers of a decoder represent of a law: probes for the latents, and the tree of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from joma.errors import NotInstalled
from joma.measure.latents.posteriors import against_posterior
from joma.measure.latents.probes import probe_matrix
from joma.measure.latents.read_off import tree_read_off
from joma.measure.trees.joining import tree_of_parents
from joma.problem.laws import parents_of_places
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import Samples
from joma.records import Estimate, Finding
from joma.theory.belief import posterior
from joma.train.decoder import Decoder


@dataclass(frozen=True)
class Represented:
    """Scores of the layers of one decoder, hidden units after the activation.

    Args:
        errors: of linear probes at the last position for the latents of each level, mean over latents.
        lowest: that of belief propagation on the same samples.
        chance: that of each level's most frequent values.
        shuffled: that of probes fitted to shuffled latents, mean over layers.
        trees: distance of the tree read off each layer to the true one; empty without scikit-bio.
        raw_tree: the distance of the tree read off the tokens of the same samples.
        permuted_tree: with leaves permuted.
    """

    errors: Float[np.ndarray, "layers levels"]
    lowest: Float[np.ndarray, " levels"]
    chance: Float[np.ndarray, " levels"]
    shuffled: Float[np.ndarray, " levels"]
    trees: tuple[float, ...] = ()
    raw_tree: float = 1.0
    permuted_tree: float = 1.0


@torch.no_grad()
def represented(decoder: Decoder, law: RandomHierarchy, samples: Samples) -> Represented:
    """Return what the layers of a decoder represent on samples of its law."""
    layers: list[Tensor] = []
    decoder(samples.tokens, observe_hidden=lambda _, hidden: layers.append(hidden))
    with torch.enable_grad():
        probes = probe_matrix([layer[:, -1] for layer in layers], samples.symbols, law.num_symbols)
    exact = posterior(law, samples.tokens).latents
    against = [
        [against_posterior(one.log_probabilities, level[one.held_out]) for one, level in zip(row, exact, strict=True)]
        for row in probes
    ]
    errors = np.array([[one.error for one in row] for row in against])
    chance, shuffled = (
        1 - np.array([[float(getattr(one, name).mean()) for one in row] for row in probes]).mean(0)
        for name in ("chance", "shuffled")
    )
    found = Represented(errors, np.array([one.lowest_error for one in against[0]]), chance, shuffled)
    truth = tree_of_parents(parents_of_places(law))
    try:
        trees = [tree_read_off(layer, truth) for layer in layers]
        raw = tree_read_off(one_hot(samples.tokens, law.num_symbols).float(), truth)
    except NotInstalled:
        return found
    distances = tuple(tree.distance for tree in trees)
    return replace(found, trees=distances, raw_tree=raw.distance, permuted_tree=raw.permuted)


def findings(trained: Sequence[Represented], untrained: Sequence[Represented]) -> tuple[Finding, ...]:
    """Return the scores of trained networks as findings, those of the untrained ones and of chance as comments."""
    num_layers, num_levels = trained[0].errors.shape
    rows = []
    for level in range(num_levels):
        lowest, chance, shuffled = (
            np.mean([getattr(one, name)[level] for one in trained]) for name in ("lowest", "chance", "shuffled")
        )
        for layer in range(num_layers):
            before = np.mean([one.errors[layer, level] for one in untrained])
            rows.append(
                Finding(
                    f"latents of level {level} read off layer {layer}: error",
                    Estimate.of([one.errors[layer, level] for one in trained]),
                    f"belief propagation {lowest:.2f}, untrained {before:.2f}, most frequent value {chance:.2f}, "
                    f"shuffled {shuffled:.2f}",
                )
            )
    few = "a tree of few leaves has few distances"
    for layer in range(len(trained[0].trees)):
        before, raw, permuted = (
            np.mean(values)
            for values in (
                [one.trees[layer] for one in untrained],
                [one.raw_tree for one in trained],
                [one.permuted_tree for one in trained],
            )
        )
        rows.append(
            Finding(
                f"tree of places read off layer {layer}: distance to the true one",
                Estimate.of([one.trees[layer] for one in trained], why_equal=few),
                f"untrained {before:.2f}, off the raw tokens {raw:.2f}, leaves permuted {permuted:.2f}",
            )
        )
    return tuple(rows)
