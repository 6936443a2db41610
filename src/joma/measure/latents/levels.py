"""Errors of a network on the latents of every level, next to those of exact inference from the same tokens.

Axes: N samples, K units, n latents of a level, C values of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor

from joma.arrays import as_tensor
from joma.errors import InvalidArgument
from joma.measure.latents.controls import Controlled, with_controls
from joma.measure.latents.posteriors import AgainstPosterior, against_posterior
from joma.measure.latents.probes import linear_probe


def level_errors(
    trained: Float[Tensor, "N K"],
    untrained: Float[Tensor, "N K"],
    levels: Sequence[Int[Tensor, "N n"]],
    posteriors: Sequence[Float[Tensor, "N n C"]],
    *,
    seed: int = 0,
) -> list[Controlled[AgainstPosterior]]:
    """Return the errors of linear probes for the latents of every level, next to those of belief propagation.

    >>> import torch, joma
    >>> law = joma.balanced_tree((2, 2, 2), 0.8)
    >>> samples = law.sample(2000, torch.Generator().manual_seed(0))
    >>> present = torch.nn.functional.one_hot(samples.tokens, 9).sum(1)[:, :8].float()
    >>> noise = torch.rand(2000, 8, generator=torch.Generator().manual_seed(1))
    >>> found = joma.level_errors(present, noise, samples.presence, joma.posterior(law, samples.tokens).latents)
    >>> [round(one.trained.error - one.trained.lowest_error, 2) for one in found]  # what the probes miss
    [0.0, 0.0]
    >>> [one.untrained.error > one.trained.error < one.shuffled.error for one in found]
    [True, True]

    A probe is fitted on one half of the samples; the errors of the probe and of belief propagation are those on the
    other half. Expectations over the true values use the posterior. The controls are the probes of the untrained
    network, and probes of the network for latents that are shuffled together with their posteriors.

    Args:
        trained: (N, K) activations of the network.
        untrained: those of the same network before training, on the same samples.
        levels: (N, n) the latents of each level: ``samples.symbols``, or ``samples.presence`` where these are empty.
            The label can be one more level: ``samples.labels[:, None]``.
        posteriors: (N, n, C) their posteriors given the tokens: ``joma.posterior(law, samples.tokens).latents``; of
            the label ``.labels[:, None]``.
        seed: of halves and of the shuffled order.
    """
    if len(levels) != len(posteriors) or not len(levels):
        required, received = f"{len(levels)} levels, at least one, as levels", f"{len(posteriors)}"
        remedy = "pass the posteriors of the same levels, in their order"
        raise InvalidArgument("level_errors", "posteriors", required=required, received=received, remedy=remedy)
    return [
        with_controls(partial(probe_errors, seed=seed), trained, untrained, latents, exact, seed=seed)
        for latents, exact in zip(levels, posteriors, strict=True)
    ]


def probe_errors(
    units: Float[Tensor, "N K"], latents: Int[Tensor, "N n"], posterior: Float[Tensor, "N n C"], *, seed: int = 0
) -> AgainstPosterior:
    """Return the errors of a linear probe for the latents of one level on the held-out samples."""
    posterior = as_tensor(posterior, "level_errors", "posteriors")
    found = linear_probe(units, latents, posterior.shape[-1], seed=seed)
    return against_posterior(found.log_probabilities, posterior[found.held_out.to(posterior.device)])
