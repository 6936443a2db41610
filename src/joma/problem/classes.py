"""Data for the one-layer model: each class has its own distribution of tokens, and a sample is a count of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch.nn.functional import one_hot

from joma.arrays import REAL
from joma.domains import POSITIVE
from joma.problem.one_layer import OneLayer, Parameters


def gaussian_classes(n_classes: int, n_context: int, width: float, spread: float = 1.0) -> Float[torch.Tensor, "C M"]:
    """Return the token distribution of each class: Gaussians over the vocabulary with evenly spaced centres.

    Args:
        n_classes: C, at least 1.
        n_context: M, at least 1.
        width: standard deviation in tokens, above 0.
        spread: share of the vocabulary, around its middle, that the centres span; above 0. With 1 the classes cover
            the vocabulary evenly, and the mean attention is nearly uniform.

    Returns:
        P(token | class); each row sums to 1.
    """
    for name, value in [("n_classes", n_classes), ("n_context", n_context), ("width", width), ("spread", spread)]:
        POSITIVE.check(value, "gaussian_classes", name)
    across = (torch.arange(n_classes, dtype=REAL) + 0.5) / n_classes - 0.5  # from -1/2 to 1/2
    centres = (0.5 + spread * across) * n_context - 0.5
    distance = torch.arange(n_context, dtype=REAL) - centres.unsqueeze(-1)
    return torch.softmax(-0.5 * (distance / width).square(), -1)


def classification_data(
    distributions: Float[torch.Tensor, "C M"], num: int, length: int, seeds: Sequence[int], n_queries: int = 1
) -> tuple[Float[torch.Tensor, "P Q N M"], Float[torch.Tensor, "P Q N C"]]:
    """Draw samples of ``length`` tokens from equally likely classes, one problem per seed.

    Args:
        distributions: P(token | class).
        num: N, samples of each query.
        length: tokens in each sample.
        seeds: one for each problem; a problem does not depend on the other seeds.
        n_queries: Q; all queries have the same distribution.

    Returns:
        The frequency of each token in each sample (these sum to 1), and the class as one-hot targets.
    """
    for name, value in [("num", num), ("length", length), ("n_queries", n_queries)]:
        POSITIVE.check(value, "classification_data", name)
    problems = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(len(distributions), (n_queries * num,), generator=generator)
        tokens = torch.multinomial(distributions[labels], length, replacement=True, generator=generator)
        problems.append(
            (one_hot(tokens, distributions.shape[-1]).to(REAL).mean(-2), one_hot(labels, len(distributions)))
        )
    context = torch.stack([frequencies for frequencies, _ in problems])
    targets = torch.stack([classes for _, classes in problems]).to(REAL)
    return context.unflatten(1, (n_queries, num)), targets.unflatten(1, (n_queries, num))


def random_parameters(
    model: OneLayer, n_hidden: int, seeds: Sequence[int], scale: float = 0.1, logit: float = 0.0
) -> Parameters:
    """Draw initial parameters for a model with one problem per seed: Gaussian weights, and equal logits.

    Args:
        model: the model; its tensors have one leading axis as long as ``seeds``.
        n_hidden: K.
        seeds: one for each problem; its parameters do not depend on the other seeds.
        scale: standard deviation of the weights, above 0.
        logit: initial value of every z.
    """
    POSITIVE.check(scale, "random_parameters", "scale")
    width, outputs = model.context_embedding.shape[-2], model.targets.shape[-1]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    weights = [scale * torch.randn(width, n_hidden, dtype=REAL, generator=source) for source in generators]
    upper = [scale * torch.randn(n_hidden, outputs, dtype=REAL, generator=source) for source in generators]
    *batch, n_queries, _, n_context = model.context.shape
    logits = torch.full((*batch, n_queries, n_context), logit, dtype=REAL)
    return Parameters(torch.stack(weights), logits, torch.stack(upper))
