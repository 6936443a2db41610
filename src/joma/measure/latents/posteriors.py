"""How far predicted distributions of latents are from exact posteriors.

Axes: N samples, n latents of a level (or none, for a label), C values of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from joma.arrays import REAL, as_float_tensor, wrong_shape
from joma.errors import InvalidArgument

_SUM_ERROR = 1e-4  # of a distribution in float32


@dataclass(frozen=True)
class AgainstPosterior:
    """Errors of predictions, with what no prediction from the same tokens can beat; means over samples and latents.

    Args:
        cross_entropy_nats: of the posterior and the prediction; infinite if a value is excluded that may occur.
        lowest_nats: the entropy of the posterior, the lowest possible cross entropy.
        accuracy: expected share of right values, if each latent's most probable value is predicted.
        best_accuracy: that of predictions from the posterior.
    """

    cross_entropy_nats: float
    lowest_nats: float
    accuracy: float
    best_accuracy: float

    @property
    def divergence_nats(self) -> float:
        """Excess cross entropy: the Kullback–Leibler divergence of the prediction from the posterior, at least 0."""
        return self.cross_entropy_nats - self.lowest_nats

    @property
    def error(self) -> float:
        """The expected share of wrong values."""
        return 1 - self.accuracy

    @property
    def lowest_error(self) -> float:
        """That of exact inference (belief propagation), below which no prediction from the same tokens can be."""
        return 1 - self.best_accuracy

    @property
    def accuracy_gap(self) -> float:
        """What is missing to the best reachable accuracy."""
        return self.best_accuracy - self.accuracy


def against_posterior(
    log_probabilities: Float[Tensor, "N ... C"], posterior: Float[Tensor, "N ... C"]
) -> AgainstPosterior:
    """Compare predicted distributions with exact posteriors.

    >>> import torch, joma
    >>> posterior = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    >>> found = joma.against_posterior(torch.full((2, 2), 0.5).log(), posterior)
    >>> round(found.divergence_nats, 4), found.best_accuracy
    (0.3466, 0.75)

    Args:
        log_probabilities: logarithms of predicted probabilities (``logits.log_softmax(-1)``), of a label or of the
            latents of a level.
        posterior: the probabilities of the same values given the same tokens.

    Returns:
        The errors; expectations over the true values use the posterior, so that they have no sampling noise beyond that
        of the tokens.
    """
    predicted = as_float_tensor(log_probabilities, "against_posterior", "log_probabilities").detach().to(REAL)
    exact = as_float_tensor(posterior, "against_posterior", "posterior").detach().to(predicted)
    if predicted.dim() < 2 or not predicted.numel():
        raise wrong_shape("against_posterior", "log_probabilities", "(samples, ..., values), not empty", predicted)
    if exact.shape != predicted.shape:
        required = f"{tuple(predicted.shape)}, that of log_probabilities"
        raise wrong_shape("against_posterior", "posterior", required, exact, "pass the same samples and latents")
    _require_distributions("log_probabilities", predicted.exp())
    _require_distributions("posterior", exact)
    chosen = predicted.argmax(-1, keepdim=True)
    terms = torch.where(exact > 0, exact * predicted, 0.0)  # 0 · ln 0 is 0
    return AgainstPosterior(
        cross_entropy_nats=float(-terms.sum(-1).mean()),
        lowest_nats=float(torch.special.entr(exact).sum(-1).mean()),
        accuracy=float(exact.gather(-1, chosen).mean()),
        best_accuracy=float(exact.amax(-1).mean()),
    )


def against_posteriors(levels: Sequence[Tensor], posteriors: Sequence[Tensor]) -> list[AgainstPosterior]:
    """Compare the predictions of every level with its posteriors, as ``against_posterior`` does."""
    if len(levels) != len(posteriors):
        required, received = f"{len(levels)} levels, as many as are predicted", f"{len(posteriors)}"
        remedy = "pass the posteriors of the predicted levels, in their order"
        raise InvalidArgument("against_posteriors", "posteriors", required=required, received=received, remedy=remedy)
    return [against_posterior(*level) for level in zip(levels, posteriors, strict=True)]


def _require_distributions(parameter: str, probabilities: Tensor) -> None:
    wrong = (probabilities.sum(-1) - 1).abs().amax()
    if not (probabilities >= 0).all() or not wrong <= _SUM_ERROR:
        raise InvalidArgument(
            "against_posterior",
            parameter,
            required="probabilities of at least 0 that sum to 1 over the last axis",
            received=f"sums that differ from 1 by up to {float(wrong):.2g}, or negative numbers",
            remedy="normalise them: logits.log_softmax(-1), or posterior / posterior.sum(-1, keepdim=True)",
        )
