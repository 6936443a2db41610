"""Exact posteriors of the label and of every latent given the tokens, for every law, by belief propagation.

In a tree of symbols, a message from a node to its parent is P(tokens below | symbol), one from a parent to a node is
P(symbol, tokens elsewhere); their product, normalised, is the posterior. One pass upwards and one downwards give all of
them (sum–product; Pearl 1988).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from joma.arrays import REAL, as_tensor
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.draws import IN_CACHE
from joma.problem.laws import AnyLaw, label_probabilities, token_presence
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law
from joma.problem.unrelated import UnrelatedLabels
from joma.theory.enumeration import enumerated
from joma.theory.tree_belief import sums_without_own, tree_beliefs

_MOST_LIKELIHOODS = 2**22  # of samples given sets that are in memory: 32 MB


@dataclass(frozen=True)
class Posterior:
    """What the tokens of samples say about label and latents.

    Args:
        labels: P(label | tokens).
        latents: P(symbol of each latent | tokens), one for each level, the lowest first. Binary latents have the
            symbols 0, absent, and 1, present.
        log_likelihood: ln P(tokens), in nats.
    """

    labels: Float[Tensor, "B D"]
    latents: tuple[Float[Tensor, "B n x"], ...]
    log_likelihood: Float[Tensor, " B"]


def posterior(law: AnyLaw, tokens: Int[Tensor, "B L"]) -> Posterior:
    """Return the exact posterior of the label and of every latent given the tokens.

    >>> import torch, joma
    >>> law = joma.RandomHierarchy(4, 4, 2, depth=3)
    >>> samples = law.sample(5, torch.Generator().manual_seed(0))
    >>> bool((joma.posterior(law, samples.tokens).labels.argmax(-1) == samples.labels).all())
    True
    >>> joma.posterior(joma.filtered(law, -1), samples.tokens).labels.shape  # as if tokens were independent
    torch.Size([5, 4])

    Trees and random hierarchy models: belief propagation, at a cost that is linear in the number of nodes. A
    combinatorial hierarchy has latents that share members, so that its graph has loops and belief propagation is not
    exact: there all states of the latents are summed, as long as they are few. For ``UnrelatedLabels`` the label has
    its prior, whatever the tokens are.

    Args:
        law: any law.
        tokens: of a ``RandomHierarchy``: in their places; the padding token stands for a place that is not observed.
            Of the other laws: in any order.

    Returns:
        float64, on the device of the tokens.

    Raises:
        InvalidArgument: tokens that the law never produces, or a combinatorial hierarchy whose latents have too many
            states.
    """
    if not isinstance(law, Law):
        required, remedy = "a law", "pass a LatentTree or a RandomHierarchy, for one"
        raise InvalidArgument("posterior", "law", required=required, received=type(law).__name__, remedy=remedy)
    tokens = _checked(law, tokens)
    if isinstance(law, UnrelatedLabels):
        within = posterior(law.law, tokens)
        prior = torch.tensor(label_probabilities(law), dtype=REAL, device=tokens.device)
        return Posterior(prior.expand(len(tokens), -1), within.latents, within.log_likelihood)
    if isinstance(law, RandomHierarchy):
        size = max(16, IN_CACHE // (max(law.num_symbols, law.num_classes) * law.num_synonyms * law.length))
        parts = [_beliefs(law, part) for part in tokens.split(size)]
        labels, likelihood, *latents = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    elif isinstance(law, LatentTree):
        labels, likelihood, latents = tree_beliefs(law, token_presence(law, tokens))
    else:
        labels, likelihood, latents = _summed(law, tokens)
    num_bad = int((~likelihood.isfinite()).sum())
    if num_bad:
        raise InvalidArgument(
            "posterior",
            "tokens",
            required="sequences with a positive probability under some label",
            received=f"{num_bad} of {len(likelihood)} that are impossible under every label",
            remedy="draw them from this law",
        )
    return Posterior(labels, tuple(latents), likelihood)


def _checked(law: AnyLaw, tokens: Tensor) -> Int[Tensor, "B L"]:
    tokens = as_tensor(tokens, "posterior", "tokens", "whole numbers")
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    good = tokens.dim() == 2 and tokens.shape[1] == law.length and len(tokens) > 0 and whole
    if not good or not 0 <= int(tokens.min()) <= int(tokens.max()) <= law.padding:
        raise InvalidArgument(
            "posterior",
            "tokens",
            required=f"whole numbers from 0 to {law.padding} of shape (samples, {law.length})",
            received=f"{str(tokens.dtype).removeprefix('torch.')} of shape {tuple(tokens.shape)}"
            + (f", from {int(tokens.min())} to {int(tokens.max())}" if good else ""),
            remedy="pass the tokens of law.sample",
        )
    return tokens.long()


def _beliefs(law: RandomHierarchy, tokens: Int[Tensor, "B L"]) -> list[Tensor]:
    """Posterior of the labels, ln P(tokens), posterior of each level's latents; samples are the last axis inside."""
    observed = torch.eye(law.num_symbols + 1, law.num_symbols, dtype=REAL, device=tokens.device)
    observed[-1] = 1.0
    upward = [observed[tokens].permute(2, 1, 0).contiguous()]  # (v, places, samples)
    rules = [level.to(tokens.device) for level in law.rules[: law.top_level + 1]]
    likelihood = torch.zeros(len(tokens), dtype=REAL, device=tokens.device)
    for level in rules:
        tuples = _of_rules(level, upward[-1])[-1]
        message = tuples.unflatten(0, level.shape[:2]).mean(1)
        scale = message.sum(0)
        likelihood += scale.log().sum(0)
        upward.append(message / scale)
    labels, total, downward = _at_top(law, upward[-1])
    latents: list[Tensor] = []
    for number in range(law.top_level, -1, -1):
        if number < len(law.num_places):
            latents.append(_normalised(downward * upward[number + 1], 0).permute(2, 1, 0))
        if number:
            downward = _down(rules[number], downward, upward[number])
    return [labels, likelihood + total, *reversed(latents)]


def _at_top(law: RandomHierarchy, upward: Float[Tensor, "x n B"]) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior of the labels, ln Σ P(label) P(messages | label), and the messages down to the highest places."""
    marginals = law.top_marginals().to(upward.device)
    evidence = torch.einsum("dnx,xnb->bnd", marginals, upward).log()
    joint = evidence.sum(1) - math.log(law.num_classes)
    others = sums_without_own(evidence, torch.zeros(evidence.shape[1], dtype=torch.int64, device=upward.device))
    downward = torch.einsum("bnd,dnx->xnb", others.softmax(-1), marginals)
    return joint.softmax(-1), joint.logsumexp(-1), downward


def _of_rules(rules: Int[Tensor, "n m s"], below: Float[Tensor, "v p B"]) -> list[Tensor]:
    """Products of the first 0, 1, …, s children's messages of each rule, (n × m, parents, B) each."""
    products: list[Tensor] = [below.new_ones(1, 1, 1)]
    for symbols, message in _children(rules, below):
        products.append(message.index_select(0, symbols).mul_(products[-1]))
    return products


def _down(rules: Int[Tensor, "n m s"], above: Tensor, below: Tensor) -> Float[Tensor, "v p B"]:
    """Messages from parents to children: over the rules, the parent's message times those of the other children."""
    before = _of_rules(rules, below)
    weights = above.repeat_interleave(rules.shape[1], 0)  # and the children after this one
    found: list[Tensor] = []
    for place, (symbols, message) in reversed(list(enumerate(_children(rules, below)))):
        sums = torch.zeros_like(message)
        found.append(_normalised(sums.index_add_(0, symbols, weights * before[place]), 0))
        weights = weights.mul_(message.index_select(0, symbols))
    return torch.stack(found[::-1], 2).flatten(1, 2)


def _children(rules: Int[Tensor, "n m s"], below: Float[Tensor, "v p B"]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each place of a tuple: its symbol in every rule, and the messages of the children at that place."""
    branching = rules.shape[-1]
    columns: Sequence[Tensor] = rules.flatten(0, 1).unbind(-1)
    for place, symbols in enumerate(columns):
        yield symbols, below[:, place::branching].contiguous()


def _normalised(values: Tensor, dim: int) -> Tensor:
    return values / values.sum(dim, keepdim=True)


def _summed(law: Combinatorial, tokens: Int[Tensor, "B L"]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Posteriors from the sums over all states of the latents and all sets of tokens that they may have drawn."""
    states = enumerated(law)
    inputs, member = token_presence(law, tokens).unique(dim=0, return_inverse=True)
    sizes = [law.num_labels, *law.level_sizes]
    joint = torch.cat([states.labels, *states.presence], 1).to(tokens.device)
    absent = states.absent.to(tokens.device)
    likelihood, sums = [], []
    for part in inputs.split(max(1, _MOST_LIKELIHOODS // len(absent))):
        given = _given_sets(absent, part)
        scale = given.amax(1, keepdim=True).clamp_min(torch.finfo(REAL).min)  # of impossible tokens it is −∞
        found = (given - scale).exp() @ joint
        total = found[:, : law.num_labels].sum(1)
        likelihood.append(total.log() + scale[:, 0])
        sums.append(found / total[:, None])
    labels, *present = torch.cat(sums)[member].split(sizes, 1)
    return labels, torch.cat(likelihood)[member], [torch.stack([1 - share, share], -1) for share in present]


def _given_sets(absent: Float[Tensor, "C V"], present: Bool[Tensor, "B V"]) -> Float[Tensor, "B C"]:
    """ln P(tokens | sets), −∞ where they are impossible."""
    without, with_it = absent.log(), torch.log1p(-absent)
    seen = present.to(REAL)

    def summed(without: Tensor, with_it: Tensor) -> Tensor:
        return seen @ (with_it - without).t() + without.sum(1)

    never = [logarithms == -torch.inf for logarithms in (without, with_it)]
    found = summed(*(part.masked_fill(no, 0.0) for part, no in zip((without, with_it), never, strict=True)))
    return found.masked_fill(summed(*(no.to(REAL) for no in never)) > 0.5, -torch.inf)
