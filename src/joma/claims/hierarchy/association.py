"""How far each query's attention logits of the other tokens move, in trained decoders and in one-layer flows.

Axes: T moments, M tokens, N samples of each query, L positions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn.functional import one_hot

from joma.arrays import REAL
from joma.problem.classes import random_parameters
from joma.problem.laws import token_presence
from joma.problem.one_layer import OneLayer, activity, orthonormal_embeddings
from joma.problem.tree import LatentTree
from joma.simulate.flow import Adaptive, flow
from joma.threads import threads
from joma.train.decoder import Decoder
from joma.train.hierarchies import seeded_samples
from joma.train.run import Run

PairTable = Float[np.ndarray, "M M"]
"""One number for each query (row) and each other token (column); the diagonal is ignored."""

N_HIDDEN, SCALE = 8, 0.1
LABEL_TIME, CONSTANT_TIME = 10.0, 1.0  # with a constant gradient of 1 the blow-up is at √(π/2) (theorem2)
NUM_MOMENTS = 26


class Movement(NamedTuple):
    """Losses in nats and each query's logits of the other tokens at several moments, the first before training."""

    losses: Float[np.ndarray, " T"]
    logits: Float[np.ndarray, "T M M"]

    @property
    def half_way(self) -> int:
        """The first moment at which the loss has fallen by half of the way to its minimum."""
        return int(np.argmax(self.losses <= (self.losses[0] + self.losses.min()) / 2))

    @property
    def moved(self) -> Float[np.ndarray, "T M M"]:
        """The logits minus those before training."""
        return self.logits - self.logits[0]


@threads(1)
def movement_of(run: Run, law: LatentTree) -> Movement:
    """Return held-out losses and first-layer logits of a trained decoder at each of its snapshots."""
    steps = run.snapshots()
    losses = {entry.step: entry.value for entry in run.measurements() if entry.metric == "val_loss_nats"}
    held_out = seeded_samples(law, run.recipe.num_probe_sequences, seed=run.recipe.seed, shuffled=True)
    shares = (held_out.tokens[:, :-1] != law.padding).double().mean(0)
    logits = [pair_logits(run.decoder(step), law.num_tokens, shares / shares.sum()) for step in steps]
    return Movement(np.array([losses[step] for step in steps]), np.stack(logits))


def pair_logits(decoder: Decoder, num_tokens: int, places: Float[torch.Tensor, " L-1"]) -> PairTable:
    """Return the first layer's logit from each token in the last position to each token before it.

    First-layer queries and keys depend on token and position alone, so one sequence per token, which repeats the
    token, gives all of them.

    Args:
        decoder: the network.
        num_tokens: M.
        places: frequency of tokens at each position before the last, summing to 1; logits are averaged with it.
    """
    seen: list[torch.Tensor] = []

    def observe(layer: int, q: torch.Tensor, k: torch.Tensor) -> None:
        if layer == 0:
            seen.append(torch.einsum("mhe,lhpe->mlp", q[:, :, -1], k[:, :, :-1]) / q.shape[1] / q.shape[-1] ** 0.5)

    with torch.no_grad():
        decoder(torch.arange(num_tokens)[:, None].expand(-1, len(places) + 1), observe)
    return (seen[0].double() @ places).numpy()


@threads(1)
def movement_in_flow(law: LatentTree, num: int, seed: int, *, constant: bool) -> Movement:
    """Return losses and logits of the one-layer flow, one problem per query.

    Args:
        law: the tree that contexts (the other tokens, given the query) and labels are drawn from.
        num: number of samples for each query.
        seed: seed of samples and initial weights.
        constant: whether to use a constant gradient on one linear hidden unit that starts at 0, as the theory assumes,
            instead of the cross entropy of the label through tanh units and an upper layer.
    """
    num_tokens = law.num_tokens
    context, labels = contexts(law, num, torch.Generator().manual_seed(seed))
    embeddings = [part.expand(num_tokens, -1, -1) for part in orthonormal_embeddings(num_tokens)]
    starts = [1000 * seed + query for query in range(num_tokens)]
    if constant:
        targets = torch.ones(num_tokens, 1, num, 1, dtype=REAL)
        model = OneLayer(context, targets, *embeddings, attention="exp", loss="constant_gradient")
        start = random_parameters(model, 1, starts)
        start = start._replace(weights=torch.zeros_like(start.weights), upper=None)
    else:
        targets = one_hot(labels, law.num_labels).to(REAL)
        model = OneLayer(context, targets, *embeddings, attention="exp", activation="tanh", trains_upper=True)
        start = random_parameters(model, N_HIDDEN, starts, scale=SCALE)
    times = torch.linspace(0, CONSTANT_TIME if constant else LABEL_TIME, NUM_MOMENTS, dtype=REAL)
    seen = flow(model, start, times, solver=Adaptive(tolerance=1e-5)).complete()
    losses = [float(activity(model, seen.parameters(moment)).loss.mean()) for moment in range(NUM_MOMENTS)]
    return Movement(np.array(losses), seen.attention_logits.squeeze(-2).numpy())


def contexts(
    law: LatentTree, num: int, generator: torch.Generator
) -> tuple[Float[torch.Tensor, "M 1 N M"], Int[torch.Tensor, "M 1 N"]]:
    """Return ``num`` samples that contain each query: the presence of the other tokens, and the label."""
    there = torch.empty(0, law.num_tokens, dtype=torch.bool)
    labels = torch.empty(0, dtype=torch.long)
    while not len(there) or int(there.sum(0).min()) < num:
        more = law.sample(3 * num, generator)
        there, labels = torch.cat([there, token_presence(law, more.tokens)]), torch.cat([labels, more.labels])
    chosen = torch.stack([there[:, query].nonzero().flatten()[:num] for query in range(law.num_tokens)])
    others = there[chosen] & ~torch.eye(law.num_tokens, dtype=torch.bool)[:, None]
    return others.to(REAL).unsqueeze(1), labels[chosen].unsqueeze(1)


def rank_correlation(
    measured: Float[np.ndarray, "*batch M M"], predicted: PairTable, given: PairTable | None = None
) -> Float[np.ndarray, "*batch"]:
    """Return Spearman's correlation over the other tokens of each query, averaged over queries.

    With ``given``, it is the partial correlation: the ranks of ``given`` are regressed out of both first.
    """
    first, second = _ranks(measured), _ranks(predicted)
    if given is not None:
        third = _ranks(given)
        first, second = (part - (part * third).sum(-1, keepdims=True) * third for part in (first, second))
        first, second = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (first, second))
    return (first * second).sum(-1).mean(-1)


def _ranks(table: Float[np.ndarray, "*batch M M"]) -> Float[np.ndarray, "*batch M M-1"]:
    """Ranks of each query's other tokens, centred and of length 1."""
    from scipy.stats import rankdata

    num = table.shape[-1]
    others = table[..., ~np.eye(num, dtype=bool)].reshape(*table.shape[:-1], num - 1)
    ranks = rankdata(others, axis=-1) - num / 2
    return ranks / np.linalg.norm(ranks, axis=-1, keepdims=True)


def in_random_places(table: PairTable, seed: int) -> PairTable:
    """Return the prediction for the same tree with its leaves permuted."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table[np.ix_(order, order)]
