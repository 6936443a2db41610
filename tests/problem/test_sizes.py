"""Laws whose arguments ask for more than a machine holds, or hold no numbers at all, are refused at once."""

import random

import numpy as np
import pytest
import torch

from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.tree import LatentTree, balanced_tree

TREE = balanced_tree((2, 2), 0.8)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "call",
    [
        lambda: balanced_tree((10**9,), 0.8),
        lambda: balanced_tree((1000, 1000, 1000), 0.8),
        lambda: balanced_tree((1,) * 10**7, 0.8),
        lambda: balanced_tree((2, 2), 0.8, num_labels=10**30),
        lambda: balanced_tree((10**5,), 0.8, num_labels=10**5),
        lambda: random_hierarchy(10**9),
        lambda: random_hierarchy(20, (10**6, 10**6)),
        lambda: random_hierarchy(20, num_tokens=10**12),
        lambda: random_hierarchy(20, set_size=10**8),
        lambda: random_hierarchy(20, num_alternatives=10**7),
        lambda: random_hierarchy(20, length=10**12),
        lambda: Combinatorial(((((0,),),),), num_tokens=10**12),
        lambda: TREE.sample(10**12, torch.Generator()),
    ],
)
def test_what_would_take_all_memory_or_for_ever_is_refused(call):
    with pytest.raises(InvalidArgument):
        call()


@pytest.mark.timeout(20)
def test_a_chain_of_many_levels_and_a_wide_tree_are_built_at_once():
    num = 50_000
    chain = LatentTree((-1, *range(num)), (0.0, *(1.0,) * num), ((-1,), (1,)))
    assert len(chain.levels) == num + 1
    with pytest.raises(InvalidArgument, match=f"there are 2\\^{num}"):
        LatentTree((-1, *(0,) * num), (0.0, *(0.5,) * num), ((-1,),))


@pytest.mark.parametrize(
    "odd", [None, "ab", 3.5, {}, object(), [None], [[1.0]], np.array(["a"]), torch.ones(2, device="meta")]
)
@pytest.mark.parametrize(
    ("law", "parameter"),
    [
        (
            lambda **given: LatentTree(
                **{"parents": (-1, 0), "polarities": (0.0, 0.5), "label_signs": ((1,),)} | given
            ),
            name,
        )
        for name in ("parents", "polarities", "label_signs", "label_probabilities")
    ]
    + [
        (lambda **given: Combinatorial(**{"members": ((((0,),),),), "num_tokens": 2} | given), name)
        for name in ("members", "num_tokens", "length", "show_probability", "label_probabilities")
    ]
    + [
        (lambda **given: balanced_tree(**{"branching": (2,), "polarities": 0.5} | given), name)
        for name in ("branching", "polarities", "num_labels", "seed", "jitter")
    ]
    + [
        (lambda **given: random_hierarchy(**{"num_classes": 2} | given), name)
        for name in ("level_sizes", "set_size", "num_tokens", "length", "show_probability", "distinct_inputs", "seed")
    ],
)
def test_what_is_no_law_is_refused(law, parameter, odd):
    if odd is None and parameter == "label_probabilities":
        assert law(label_probabilities=None).label_probabilities is None
        return
    with pytest.raises(InvalidArgument):
        law(**{parameter: odd})


def test_arrays_are_taken_for_lists():
    law = LatentTree(np.array([-1, 0]), np.array([0.0, 0.5]), torch.tensor([[1], [-1]]), np.array([0.5, 0.5]))
    assert law == LatentTree((-1, 0), (0.0, 0.5), ((1,), (-1,)), (0.5, 0.5))


@pytest.mark.parametrize(
    ("parameter", "odd"),
    [
        ("num", 0),
        ("num", "many"),
        ("generator", None),
        ("generator", random.Random(0)),
        ("labels", "all"),
        ("labels", [5, 5]),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused(parameter, odd):
    given = {"num": 2, "generator": torch.Generator(), "labels": None}
    with pytest.raises(InvalidArgument, match=f"`{parameter}`"):
        TREE.sample(**given | {parameter: odd})
