"""Linear probes: how well the values of latents can be read off a layer by a linear classifier.

Axes: N samples, K units, n latents of a level, C values of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from joma.arrays import REAL, as_float_tensor, as_tensor, on_one_device, wrong_shape
from joma.domains import POSITIVE, check_seed
from joma.errors import InvalidArgument
from joma.measure.latents.matching import random_half

_MOST_ITERATIONS = 200
_FEWEST_SAMPLES = 4


@dataclass(frozen=True)
class Probed:
    """Probes of one layer for the latents of one level, fitted on one half of the samples and scored on the other.

    Args:
        accuracy: share of held-out samples whose value is predicted right, for each latent.
        cross_entropy_nats: of the predicted distributions on held-out samples, for each latent.
        chance: the accuracy of the most frequent value of the fitted half.
        shuffled: the accuracy of probes that were fitted to values shuffled across samples.
        held_out: indices of the held-out samples.
        log_probabilities: (held-out samples, n, C) of the predictions, such as ``against_posterior`` takes.
    """

    accuracy: Float[Tensor, " n"]
    cross_entropy_nats: Float[Tensor, " n"]
    chance: Float[Tensor, " n"]
    shuffled: Float[Tensor, " n"]
    held_out: Int[Tensor, " h"]
    log_probabilities: Float[Tensor, "h n C"]

    @property
    def corrected(self) -> float | None:
        """(accuracy − chance) / (1 − chance), of means over latents: 0 is chance; ``None`` if chance is 1."""
        chance = float(self.chance.mean())
        return None if chance >= 1 else (float(self.accuracy.mean()) - chance) / (1 - chance)


def linear_probe(
    units: Float[Tensor, "N K"],
    latents: Int[Tensor, "N n"],
    num_values: int | None = None,
    *,
    penalty: float = 1e-2,
    seed: int = 0,
) -> Probed:
    """Fit a multinomial logistic regression for each latent on one half of the samples and score it on the other.

    >>> import torch, joma
    >>> law = joma.RandomHierarchy(4, 4, 2, depth=2)
    >>> samples = law.sample(400, torch.Generator().manual_seed(0))
    >>> pairs = torch.nn.functional.one_hot(samples.tokens[:, :2] @ torch.tensor([4, 1]), 16).float()
    >>> found = joma.linear_probe(pairs, samples.symbols[0])  # the first two tokens say what the first latent is
    >>> float(found.accuracy[0]), float(found.accuracy[1]) < 1
    (1.0, True)

    Args:
        units: (N, K) activations; flatten positions, or take that of one position.
        latents: (N, n) values as integers from 0, such as the symbols of the ancestors of each token.
        num_values: C; the largest value plus one by default.
        penalty: of half the squared weights, for units of variance 1, next to the mean cross entropy.
        seed: of halves and shuffles, which are the same on every device.

    Returns:
        The scores, with those of the most frequent value and of shuffled values.

    All latents are fitted at once by L-BFGS in float64; the problem is convex. Constant units are ignored. A probe says
    that a latent can be read off linearly, not that the network uses it (Alain and Bengio, arXiv 1610.01644).
    """
    units, latents, count = _read(units, latents, num_values)
    POSITIVE.check(penalty, "linear_probe", "penalty")
    check_seed(seed, "linear_probe")
    generator = torch.Generator().manual_seed(seed)
    fitted = random_half(torch.arange(len(units)), generator).to(units.device)
    order = torch.randperm(int(fitted.sum()), generator=generator).to(units.device)
    held_out, known = (~fitted).nonzero().flatten(), latents[fitted]
    mean, spread = units[fitted].mean(0), units[fitted].std(0)
    scaled = ((units - mean) / spread.where(spread > 0, 1)).where(spread > 0, 0)
    num = latents.shape[1]
    weights = _fit(scaled[fitted], torch.cat([known, known[order]], 1), count, penalty)
    logits = (_with_one(scaled[held_out]) @ weights).unflatten(-1, (2 * num, count))
    wanted = latents[held_out]
    right = (logits.argmax(-1) == torch.cat([wanted, wanted], 1)).to(REAL).mean(0)
    log_probabilities = logits[:, :num].log_softmax(-1)
    frequent = known.mode(0).values
    return Probed(
        accuracy=right[:num],
        cross_entropy_nats=-log_probabilities.gather(-1, wanted[..., None])[..., 0].mean(0),
        chance=(wanted == frequent).to(REAL).mean(0),
        shuffled=right[num:],
        held_out=held_out,
        log_probabilities=log_probabilities,
    )


def probe_matrix(
    layers: Sequence[Tensor], levels: Sequence[Tensor], num_values: int | None = None, *, seed: int = 0
) -> list[list[Probed]]:
    """Return the probes of every layer for every level, all with the same halves.

    Args:
        layers: per layer (N, K_s) activations.
        levels: per level (N, n_t) values of the latents.
        num_values, seed: as in ``linear_probe``.

    Returns:
        One row per layer, with one result per level.
    """
    return [[linear_probe(units, latents, num_values, seed=seed) for latents in levels] for units in layers]


def _fit(
    units: Float[Tensor, "N K"], latents: Int[Tensor, "N n"], count: int, penalty: float
) -> Float[Tensor, "K+1 nC"]:
    """The weights of all probes, the last row their biases, which are not penalised."""
    rows = _with_one(units)
    weights = torch.zeros(rows.shape[1], latents.shape[1] * count, dtype=REAL, device=units.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=_MOST_ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = (rows @ weights).unflatten(-1, (-1, count)).flatten(0, 1)
        value = cross_entropy(logits, latents.flatten()) * latents.shape[1]
        value = value + penalty / 2 * weights[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weights.detach()


def _with_one(units: Float[Tensor, "N K"]) -> Float[Tensor, "N K+1"]:
    return torch.cat([units, units.new_ones(len(units), 1)], 1)


def _read(units: Tensor, latents: Tensor, num_values: int | None) -> tuple[Tensor, Tensor, int]:
    units, latents = (
        as_float_tensor(units, "linear_probe", "units"),
        as_tensor(latents, "linear_probe", "latents", "whole numbers"),
    )
    units, latents = on_one_device(units.detach(), latents.detach())
    if units.dim() != 2 or not units.numel() or len(units) < _FEWEST_SAMPLES:
        raise wrong_shape("linear_probe", "units", f"(samples, units), with at least {_FEWEST_SAMPLES} samples", units)
    if latents.dim() != 2 or len(latents) != len(units) or not latents.numel():
        raise wrong_shape("linear_probe", "latents", f"({len(units)}, latents), one row for each sample", latents)
    if not units.isfinite().all():
        received, remedy = "NaN or infinite numbers", "check whether the network diverged"
        raise InvalidArgument("linear_probe", "units", required="finite numbers", received=received, remedy=remedy)
    count = int(latents.max()) + 1 if num_values is None else num_values
    whole = not (latents.is_floating_point() or latents.is_complex())
    if not whole or int(latents.min()) < 0 or int(latents.max()) >= count:
        raise InvalidArgument(
            "linear_probe",
            "latents",
            required=f"whole numbers from 0 to {count - 1}",
            received=f"{str(latents.dtype).removeprefix('torch.')} from {latents.min()} to {latents.max()}",
            remedy="pass the index of each value, and as num_values how many there are",
        )
    return units.to(REAL), latents.long(), count
