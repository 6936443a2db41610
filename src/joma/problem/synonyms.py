"""Exchange of synonyms: samples of a random hierarchy model rewritten without a change of meaning at a level."""

from __future__ import annotations

import torch

from joma.errors import InvalidArgument
from joma.problem.draws import random_places
from joma.problem.laws import check_level
from joma.problem.random_hierarchy import RandomHierarchy, one_hot
from joma.problem.tree import Samples


def exchange_synonyms(law: RandomHierarchy, samples: Samples, level: int, generator: torch.Generator) -> Samples:
    """Write every latent of a level with another rule of its symbol, and draw anew what lies below.

    >>> import torch, joma
    >>> law = joma.RandomHierarchy(4, 4, 2, depth=3)
    >>> samples = law.sample(6, torch.Generator().manual_seed(0))
    >>> changed = joma.exchange_synonyms(law, samples, 0, torch.Generator().manual_seed(1))
    >>> bool((changed.symbols[0] == samples.symbols[0]).all()), bool((changed.tokens == samples.tokens).all())
    (True, False)

    The new rule is one of the m − 1 others, uniformly, for each latent by itself. Below, all rules are drawn afresh, as
    the code published with the paper does (Cagnetta et al., arXiv 2307.02129); a sub-tree is written for its new
    symbol, so rules cannot be kept. Labels and latents from this level upwards stay as they are.

    Args:
        law: of the samples.
        samples: with their symbols.
        level: of the latents: from 0, whose tuples are tokens, to that of the label, ``depth`` − 1.
        generator: source of randomness.
    """
    function = "exchange_synonyms"
    if not isinstance(law, RandomHierarchy):
        required, remedy = "a RandomHierarchy, whose latents have synonyms", "pass one"
        raise InvalidArgument(function, "law", required=required, received=type(law).__name__, remedy=remedy)
    if law.num_synonyms == 1:
        required, remedy = "a law with at least 2 synonyms", "take more synonyms"
        raise InvalidArgument(function, "law", required=required, received="one with a single rule", remedy=remedy)
    for name, value, kind in (("samples", samples, Samples), ("generator", generator, torch.Generator)):
        if not isinstance(value, kind):
            required, remedy = f"a {kind.__name__}", "pass law.sample(…) and torch.Generator()"
            raise InvalidArgument(function, name, required=required, received=type(value).__name__, remedy=remedy)
    check_level(level, function, law.top_level)
    if not _are_of(law, samples):
        required, remedy = "samples of this law", "pass samples as law.sample returns them"
        received = "of other lengths, levels or symbols"
        raise InvalidArgument(function, "samples", required=required, received=received, remedy=remedy)
    rows = [samples.tokens, *samples.symbols, samples.labels[:, None]]
    below, parents = rows[level], rows[level + 1]
    rules = law.rules[level].to(parents.device)
    tuples = below.unflatten(-1, (-1, law.branching))
    is_rule = (rules[parents] == tuples[:, :, None]).all(-1)
    if not bool(is_rule.any(-1).all()):
        required, remedy = "samples of this law", "pass samples as law.sample returns them"
        raise InvalidArgument(function, "samples", required=required, received="tuples without a rule", remedy=remedy)
    step = random_places(torch.full_like(parents, law.num_synonyms - 1), generator) + 1
    chosen = (is_rule.to(torch.uint8).argmax(-1) + step) % law.num_synonyms
    changed = rules[parents, chosen].flatten(1)
    drawn = [part.long() for part in law.draw_below(changed, level - 1, generator)]
    tokens, *symbols = [*drawn, changed, *samples.symbols[level:]]
    presence = tuple(one_hot(part, law.num_symbols) for part in symbols)
    return Samples(tokens, samples.labels, presence, tuple(symbols))


def _are_of(law: RandomHierarchy, samples: Samples) -> bool:
    """Whether tokens, symbols and labels have the shapes and the range of the law's."""
    rows = [samples.tokens, *samples.symbols]
    widths = [row.shape[-1] for row in rows]
    in_range = all(0 <= int(row.min()) <= int(row.max()) < law.num_symbols for row in rows if row.numel())
    labels = samples.labels
    good = not labels.numel() or 0 <= int(labels.min()) <= int(labels.max()) < law.num_classes
    return widths == [law.length, *law.num_places] and in_range and good
