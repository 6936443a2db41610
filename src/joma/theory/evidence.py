"""What the tokens of a small law can say about the label: all different evidence, with its probabilities.

Given the label, the sub-trees of its children are independent of each other, and in each of them the sub-trees of a
node given its value. Patterns of tokens whose probabilities given all values are proportional are the same evidence,
and their probabilities are added. So a symmetric tree has little evidence, even if it has many inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import Hierarchy, label_probabilities
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree
from joma.theory.enumeration import inputs_of

MOST_EVIDENCE = 2**16
"""The most different evidence that is listed, in each step; half a second."""

_MOST_NODES = 256  # of a tree, each of which is a step
_SAME = math.e * 1e-12  # steps to which the logarithms of probabilities are rounded; no simple fraction is between two


def label_evidence(law: Hierarchy) -> Float[Tensor, "k D"]:
    """Return P(evidence, label) for all different evidence that the tokens can be, exactly.

    Tokens of a ``RandomHierarchy`` determine the symbols of its highest level, so that these are the evidence.

    Raises:
        InvalidArgument: the law has more evidence than can be listed: more than ``MOST_EVIDENCE`` in a tree or a random
            hierarchy, and as many states of a combinatorial hierarchy as ``inputs_of`` refuses.
    """
    if isinstance(law, Combinatorial):
        return inputs_of(law)
    given = _of_tree(law) if isinstance(law, LatentTree) else _of_symbols(law)
    return given * torch.tensor(label_probabilities(law), dtype=REAL)


def _of_symbols(law: RandomHierarchy) -> Float[Tensor, "k D"]:
    return _together(law.top_marginals().permute(1, 2, 0))


def _of_tree(tree: LatentTree) -> Float[Tensor, "k D"]:
    _check_few(len(tree.parents), _MOST_NODES)
    below = [torch.eye(2, dtype=REAL)] * tree.num_tokens  # P(evidence below a node | its sign), signs −1 and +1
    for depth in range(len(tree.levels) - 1, 0, -1):
        carried = [
            (1 + polarity) / 2 * table + (1 - polarity) / 2 * table.flip(-1)
            for polarity, table in zip((tree.polarities[node] for node in tree.levels[depth]), below, strict=True)
        ]
        if depth == 1:
            signs = (torch.tensor(tree.label_signs).t() > 0).long()
            return _together(table[:, favoured] for table, favoured in zip(carried, signs, strict=True))
        families: list[list[Tensor]] = [[] for _ in tree.levels[depth - 1]]
        for place, table in zip(tree.parent_places[depth - 1], carried, strict=True):
            families[place].append(table)
        below = [_together(family) for family in families]
    raise AssertionError("a tree has at least one level of edges")


def _together(tables: Iterable[Float[Tensor, "k x"]]) -> Float[Tensor, "K x"]:
    """The evidence of parts that are independent given x."""
    found = None
    for table in tables:
        if found is None:
            found = _merged(table)
            continue
        _check_few(len(found) * len(table), MOST_EVIDENCE)
        found = _merged((found[:, None] * table).flatten(0, 1))
    assert found is not None
    return found


def _merged(rows: Float[Tensor, "k x"]) -> Float[Tensor, "K x"]:
    """Sum rows that are proportional to each other; leave out rows of zeros."""
    rows = rows[rows.sum(-1) > 0]
    kinds = ((rows / rows.sum(-1, keepdim=True)).log() / _SAME).round()  # relative, for more evidence multiplies them
    keys = (kinds.nan_to_num(neginf=1.0) * torch.arange(1, kinds.shape[1] + 1).sqrt()).sum(-1)
    order = keys.argsort()  # the same kinds next to each other
    kinds, rows = kinds[order], rows[order]
    differs = (kinds[1:] != kinds[:-1]).any(-1)
    number = torch.cat([differs.new_zeros(1), differs]).cumsum(0)
    return rows.new_zeros(int(number[-1]) + 1, rows.shape[1]).index_add_(0, number, rows)


def _check_few(num: int, most: int) -> None:
    if num > most:
        raise InvalidArgument(
            "label_evidence",
            "law",
            required=f"one with at most {most:,} nodes or different evidence",
            received=f"one with {num:,}",
            remedy="take the mean over samples: joma.ceiling_of(law, samples)",
        )
