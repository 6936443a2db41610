"""A data law for the one-layer model: classes that differ in which tokens they use, samples that count tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int

from joma.arrays import REAL
from joma.domains import POSITIVE
from joma.problem.one_layer import OneLayer, Parameters


def gaussian_classes(n_classes: int, n_context: int, width: float) -> Float[torch.Tensor, "C M"]:
    """The token distribution of each class: a Gaussian bump over the vocabulary, its centre moving with the class.

    Args:
        n_classes: C, at least 1.
        n_context: M, at least 1.
        width: standard deviation in tokens, above 0; the centres divide the vocabulary evenly.

    Returns:
        P(token | class), each row summing to 1.
    """
    for name, value in [("n_classes", n_classes), ("n_context", n_context), ("width", width)]:
        POSITIVE.check(value, "gaussian_classes", name)
    centres = (torch.arange(n_classes, dtype=REAL) + 0.5) * n_context / n_classes - 0.5
    distance = torch.arange(n_context, dtype=REAL) - centres.unsqueeze(-1)
    return torch.softmax(-0.5 * (distance / width).square(), -1)


def sample_contexts(
    distributions: Float[torch.Tensor, "C M"], num: int, length: int, generator: torch.Generator
) -> tuple[Float[torch.Tensor, "N M"], Int[torch.Tensor, " N"]]:
    """Samples of ``length`` tokens drawn from classes that are equally likely.

    Args:
        distributions: P(token | class).
        num: N, how many samples.
        length: tokens in each.
        generator: the source of chance.

    Returns:
        How often each token occurs in each sample, as frequencies that sum to 1, and the class of each sample.
    """
    labels = torch.randint(len(distributions), (num,), generator=generator)
    tokens = torch.multinomial(distributions[labels], length, replacement=True, generator=generator)
    counts = torch.zeros(num, distributions.shape[-1], dtype=REAL)
    counts.scatter_add_(-1, tokens, torch.ones_like(tokens, dtype=REAL))
    return counts / length, labels


def random_parameters(
    model: OneLayer, n_hidden: int, scale: float, generator: torch.Generator, *, with_upper: bool = True
) -> Parameters:
    """Gaussian parameters that fit the model: W and the upper layer with standard deviation ``scale``, z = 0.

    Args:
        model: the model.
        n_hidden: K.
        scale: standard deviation, above 0.
        generator: the source of chance.
        with_upper: whether there is an upper layer.
    """
    POSITIVE.check(scale, "random_parameters", "scale")
    *batch, n_queries, _, n_context = model.context.shape

    def gaussian(*shape: int) -> torch.Tensor:
        return scale * torch.randn(*batch, *shape, dtype=REAL, generator=generator)

    weights = gaussian(model.context_embedding.shape[-2], n_hidden)
    upper = gaussian(n_hidden, model.targets.shape[-1]) if with_upper else None
    return Parameters(weights, torch.zeros(*batch, n_queries, n_context, dtype=REAL), upper)
