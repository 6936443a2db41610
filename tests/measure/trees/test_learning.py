import numpy as np
import pandas
import pytest

from joma.errors import BadInput, InvalidArgument
from joma.measure.trees.learning import METHODS, learn
from joma.tables.columns import read_table

RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=400)
FRAME = pandas.DataFrame(
    {"a": FIRST, "b": FIRST + 0.5 * RNG.normal(size=400), "c": FIRST - 0.5 * RNG.normal(size=400)}
    | {"d": RNG.normal(size=400), "e": RNG.normal(size=400)}
)


@pytest.mark.parametrize("method", METHODS)
def test_related_columns_have_support_and_unrelated_ones_little(method):
    if method == "neighbour-joining":
        pytest.importorskip("skbio", reason="the extra trees")
    tree = learn(read_table(FRAME), method, num_bootstraps=30, seed=0)
    support = [edge.support for edge in tree.edges if edge.support is not None]
    assert max(support) >= 0.9
    if method == "chow-liu":
        assert {(edge.one, edge.other) for edge in tree.edges[:2]} == {(0, 1), (0, 2)}
        assert tree.edges[0].support == tree.edges[1].support == 1
        assert max(edge.support or 0 for edge in tree.edges[2:]) < 0.9


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_support(method):
    if method == "neighbour-joining":
        pytest.importorskip("skbio", reason="the extra trees")
    frame = FRAME.assign(colour=RNG.choice(["red", "green", "blue"], 400))
    one, other = (learn(read_table(frame), method, num_bootstraps=5, seed=1) for _ in range(2))
    assert one == other


def test_without_samples_there_is_no_support():
    tree = learn(read_table(FRAME), "chow-liu", num_bootstraps=0, seed=0)
    assert {edge.support for edge in tree.edges} == {None}


def test_categories_only_and_missing_values_are_learned():
    frame = pandas.DataFrame({"a": list("xyxy") * 25, "b": list("uvuv") * 25, "c": list("pqqp") * 25})
    frame.loc[:10, "b"] = None
    edges = learn(read_table(frame), "chow-liu", num_bootstraps=0, seed=0).edges
    assert (edges[0].one, edges[0].other) == (0, 1)


@pytest.mark.parametrize(
    "settings", [{"method": "guess"}, {"num_bootstraps": -1}, {"seed": -1}, {"num_bins": 1}, {"num_bins": 2.0}]
)
def test_bad_arguments_are_refused(settings):
    with pytest.raises(InvalidArgument):
        learn(read_table(FRAME), **({"method": "chow-liu", "num_bootstraps": 1, "seed": 0} | settings))


def test_few_rows_and_few_columns_are_refused():
    with pytest.raises(BadInput, match="at least 10 rows"):
        learn(read_table(FRAME.iloc[:9]), "chow-liu", num_bootstraps=0, seed=0)
    with pytest.raises(BadInput, match="3 columns"):
        learn(read_table(FRAME[["a", "b"]]), "neighbour-joining", num_bootstraps=0, seed=0)
