"""Laws survive JSON, and what is none is refused in words."""

import json

import pytest

from joma.errors import BadInput
from joma.problem.combinatorial import random_hierarchy
from joma.problem.laws import law_from_json
from joma.problem.tree import LatentTree, balanced_tree, digest
from joma.problem.unrelated import UnrelatedLabels

LAWS = [
    balanced_tree((2, 3), 0.4, num_labels=3, jitter=0.1),
    LatentTree((-1, 0, 0), (0.0, 0.3, -0.3), ((1, 1), (-1, 1)), (0.1, 0.9)),
    random_hierarchy(20, num_alternatives=2, show_probability=0.9),
    random_hierarchy(5, set_size=(3, 2, 1)),
    UnrelatedLabels(random_hierarchy(5)),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_law_survives_json(law):
    back = law_from_json(json.loads(json.dumps(law.to_json())))
    assert back == law
    assert digest(back) == digest(law)


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
        (TREE | {"parents": 3}, "this is no law"),
        (TREE | {"polarities": ["a", "b", "c"]}, "this is no law|`polarities`"),
        (TREE | {"polarities": [0.0, 0.5, 1.5]}, "`polarities` is 1.5"),
        (TREE | {"label_signs": 1}, "this is no law"),
        (TREE | {"label_probabilities": [None, 1]}, "this is no law"),
        (TABLE | {"members": 7}, "this is no law"),
        (TABLE | {"members": [[1, 2]]}, "this is no law"),
        (TABLE | {"members": [[["ab"]]]}, "whole numbers"),
        (TABLE | {"num_tokens": "many"}, "`num_tokens`"),
        (TABLE | {"show_probability": "often"}, "this is no law"),
        (TABLE | {"show_probability": 0}, "`show_probability` is 0"),
        (TABLE | {"length": 2}, "`length` is 2"),
        ({"kind": "unrelated_labels", "law": 3}, "int, no mapping"),
        (
            {"kind": "unrelated_labels", "law": UnrelatedLabels(random_hierarchy(2)).to_json()},
            "`law` is UnrelatedLabels",
        ),
    ],
)
def test_what_is_no_law_is_refused(data, message):
    with pytest.raises(BadInput, match=message):
        law_from_json(data)
