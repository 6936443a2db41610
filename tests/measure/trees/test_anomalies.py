import numpy as np
import pandas

from joma.measure.trees.anomalies import NUM_FOLDS, detector_of, scores_with, scores_within
from joma.tables.columns import Table, read_like, read_table

NUM, NUM_PLANTED = 600, 30


def planted(seed: int = 0) -> Table:
    """Columns that follow one another, and at the end rows in which each value is from another row."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=NUM)
    frame = pandas.DataFrame({name: first + 0.3 * rng.normal(size=NUM) for name in "abcd"})
    mixed = pandas.DataFrame({name: rng.choice(frame[name], NUM_PLANTED) for name in frame})
    return read_table(pandas.concat([frame, mixed], ignore_index=True))


def share_found(surprise: np.ndarray) -> float:
    """Share of pairs of a planted and a normal row in which the planted one is more surprising."""
    return float((surprise[NUM:, None] > surprise[None, :NUM]).mean())


def test_planted_rows_surprise_a_tree_of_the_table_itself_and_not_a_model_without_edges():
    table = planted()
    assert share_found(scores_within(table).surprise) > 0.85
    assert share_found(scores_within(table, with_edges=False).surprise) < 0.65


def test_each_row_is_scored_by_a_tree_that_was_learned_on_others():
    scores = scores_within(planted())
    assert len(scores.detectors) == NUM_FOLDS
    assert sorted(np.concatenate([rows for rows, _ in scores.detectors])) == list(range(NUM + NUM_PLANTED))


def test_the_column_that_breaks_the_relations_is_named_with_what_was_likely():
    normal = planted().take(np.arange(NUM))
    odd = read_like(pandas.DataFrame({"a": [1.0], "b": [-1.0], "c": [1.0], "d": [1.0]}), normal)
    columns = scores_with(detector_of(normal), odd).columns(0)
    assert max(columns, key=lambda name: columns[name][0]) == "b"
    low, high = map(float, columns["b"][1].split(" to "))
    assert 0 < low < high


def test_parts_and_columns_of_a_row_agree_with_its_surprise():
    scores = scores_within(planted())
    own, edges = scores.parts(NUM)
    assert abs(sum(own.values()) + sum(edges.values()) - scores.surprise[NUM]) < 1e-9
    assert set(scores.columns(NUM)) == set("abcd")


def test_the_tree_of_the_scores_is_that_of_its_detectors_with_the_share_that_have_each_edge():
    table = planted()
    scores = scores_within(table)
    assert len(scores.tree.edges) == 3
    assert all(0 <= edge.support <= 1 for edge in scores.tree.edges)
    assert max(edge.support for edge in scores.tree.edges) > 0
    normal = detector_of(table)
    alone = scores_with(normal, table).tree
    assert {frozenset((edge.one, edge.other)) for edge in alone.edges} == set(map(frozenset, normal.model.edges))
    assert {edge.support for edge in alone.edges} == {None}


def test_nothing_is_likely_in_place_of_a_value_that_is_the_likeliest():
    pairs = pandas.DataFrame({"x": [0.0, 1.0] * 100, "y": [0.0, 1.0] * 100})
    normal = read_table(pairs)
    detector = detector_of(normal)
    usual = scores_with(detector, read_like(pairs[:1], normal)).columns(0)
    assert {expected for _, expected in usual.values()} == {""}
    odd = scores_with(detector, read_like(pandas.DataFrame({"x": [1.0], "y": [0.0]}), normal)).columns(0)
    assert {name: expected for name, (_, expected) in odd.items()} == {"x": "0", "y": "1"}


def test_a_column_of_which_a_part_of_the_table_has_no_value_is_scored():
    x = np.arange(20.0)
    table = read_table(pandas.DataFrame({"x": x % 7, "y": x % 5, "rare": np.where(x < 2, x, np.nan)}))
    scores = scores_within(table, seed=12)  # both values are in the same fifth
    assert any(len(np.intersect1d(rows, [0, 1])) == 2 for rows, _ in scores.detectors)
    assert np.isfinite(scores.surprise).all()
