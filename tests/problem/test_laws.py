"""Laws written as JSON and read back, data that is not a law, and functions of any law."""

import json

import pytest
import torch

from joma.errors import BadInput, InvalidArgument
from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.laws import (
    NO_ANCESTOR,
    common_heights,
    edges_of,
    hierarchy_of,
    law_from_json,
    parents_of_places,
    token_presence,
)
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law, balanced_tree, digest
from joma.problem.unrelated import UnrelatedLabels

LAWS = [
    balanced_tree((2, 3), 0.4, num_labels=3, jitter=0.1),
    LatentTree((-1, 0, 0), (0.0, 0.3, -0.3), ((1, 1), (-1, 1)), (0.1, 0.9)),
    random_hierarchy(20, num_alternatives=2, show_probability=0.9),
    random_hierarchy(5, set_size=(3, 2, 1)),
    UnrelatedLabels(random_hierarchy(5)),
    RandomHierarchy(3, 4, 2),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_law_read_from_its_json_is_equal(law):
    back = law_from_json(json.loads(json.dumps(law.to_json())))
    assert back == law
    assert digest(back) == digest(law)


def test_a_law_that_does_not_say_how_it_is_drawn_names_what_to_define():
    class Flat(Law):
        num_tokens = num_labels = length = 2
        level_sizes, label_probabilities = (), None

        def to_json(self):
            return {}

    with pytest.raises(NotImplementedError, match=r"define Flat\._draw"):
        Flat().sample(3, torch.Generator())


def test_different_laws_have_different_digests():
    assert len({digest(law) for law in LAWS}) == len(LAWS)


TREE = balanced_tree((2,), 0.5).to_json()
TABLE = random_hierarchy(2).to_json()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "NoneType"),
        ([], "list"),
        ({}, "the kind is None"),
        ({"kind": "forest"}, "'forest'"),
        ({"kind": ["latent_tree"]}, "latent_tree"),
        ({"kind": "latent_tree"}, "no label_probabilities"),
        (TREE | {"colour": "red"}, "unknown colour"),
        (TREE | {"parents": 3}, "`parents` is 3, of type int; expected a list of nodes"),
        (TREE | {"polarities": ["a", "b", "c"]}, "`polarities` is 'a'"),
        (TREE | {"polarities": [0.0, 0.5, 1.5]}, "`polarities` is 1.5"),
        (TREE | {"label_signs": 1}, "`label_signs` is 1"),
        (TREE | {"label_probabilities": [None, 1]}, "`label_probabilities` is None"),
        (TABLE | {"members": 7}, "`members` is 7"),
        (TABLE | {"members": [[1, 2]]}, "`members` is 1"),
        (TABLE | {"members": [[["ab"]]]}, "`members` is 'ab'"),
        (TABLE | {"members": [[[["ab"]]]]}, "whole numbers"),
        (TABLE | {"num_tokens": "many"}, "`num_tokens`"),
        (TABLE | {"show_probability": "often"}, "`show_probability` is 'often'"),
        (TABLE | {"show_probability": 0}, "`show_probability` is 0"),
        (TABLE | {"length": 2}, "`length` is 2"),
        ({"kind": "unrelated_labels", "law": 3}, "int, no mapping"),
        (
            {"kind": "unrelated_labels", "law": UnrelatedLabels(random_hierarchy(2)).to_json()},
            "`law` is UnrelatedLabels",
        ),
    ],
)
def test_data_that_is_not_a_law_is_refused(data, message):
    with pytest.raises(BadInput, match=message):
        law_from_json(data)


def test_hierarchy_of_unwraps_unrelated_labels_and_refuses_other_laws():
    law = balanced_tree((2, 2), 0.5)
    assert hierarchy_of(UnrelatedLabels(law)) is hierarchy_of(law) is law
    with pytest.raises(InvalidArgument, match="UnrelatedLabels"):
        hierarchy_of("tree")  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_token_presence_is_true_for_exactly_the_tokens_of_the_sequence(law):
    tokens = law.sample(20, torch.Generator().manual_seed(0)).tokens
    for sequence, present in zip(tokens.tolist(), token_presence(law, tokens), strict=True):
        assert set(present.nonzero().flatten().tolist()) == set(sequence) - {law.padding}


def test_edges_of_a_tree_lead_from_tokens_to_the_label():
    tree = LatentTree((-1, 0, 0, 2, 1, 2, 1), (0.0, *(0.5,) * 6), ((-1, -1), (1, 1)))
    assert tree.parent_places == ((0, 0), (1, 0, 1, 0))
    assert [edges.tolist() for edges in edges_of(tree)] == [[[0, 1], [1, 0], [2, 1], [3, 0]], [[0, 0], [1, 0]]]


def test_parents_of_places_are_those_of_a_tree_of_tuples():
    assert parents_of_places(RandomHierarchy(4, 4, 2, depth=3)) == (-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)


def test_edges_of_a_combinatorial_hierarchy_are_those_of_all_alternatives():
    law = Combinatorial(((((0, 1), (1, 2)), ((2, 3),)), (((0,),), ((1,),))), 4, 4)
    assert [edges.tolist() for edges in edges_of(law)] == [[[0, 0], [1, 0], [2, 0], [2, 1], [3, 1]], [[0, 0], [1, 1]]]


def test_heights_are_those_of_the_nearest_common_ancestor():
    assert common_heights(balanced_tree((2, 2), 0.5)).tolist() == [
        [-1, 1, 2, 2],
        [1, -1, 2, 2],
        [2, 2, -1, 1],
        [2, 2, 1, -1],
    ]


def test_tokens_of_different_classes_have_no_common_ancestor():
    law = Combinatorial(((((0, 1),), ((2, 3),)), (((0,),), ((1,),))), 4, 4)
    found = common_heights(law)
    assert found[0].tolist() == [-1, 1, NO_ANCESTOR, NO_ANCESTOR]
