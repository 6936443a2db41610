"""The page of anomalous rows: what it says, that it escapes, and that a browser draws it."""

import numpy as np
import pandas
import pytest

from joma.studies.anomalies import MOST_POINTS, tree_anomalies
from linking import explorer_of

ODD = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def found():
    first = np.arange(200) % 4.0
    frame = pandas.DataFrame({ODD: first, "twice": 2 * first, "kind": np.where(first > 1, "high & wide", "low")})
    frame.loc[4, "kind"] = "high & wide"
    return tree_anomalies(frame, num_explained=2)


def test_the_page_ranks_rows_and_names_columns_and_likely_values(found, tmp_path):
    path = found.write(tmp_path, "a <table>")
    assert explorer_of(path).is_file()
    page = path.read_text()
    body = page[page.index("<body>") :]
    assert body.index("Row 4 ·") < body.index("The tree of the columns")
    assert "high &amp; wide" in body
    assert "a &lt;table&gt;" in body
    assert ODD not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert body.count("<article") == 2


def test_without_rows_to_explain_the_page_has_the_scores_and_the_tree(tmp_path):
    found = tree_anomalies(pandas.DataFrame({"x": np.arange(40.0) % 5, "y": np.arange(40.0) % 5}), num_explained=0)
    page = found.write(tmp_path).read_text()
    assert "The most anomalous rows" not in page[page.index("<body>") :]
    assert "The tree of the columns" in page


@pytest.mark.parametrize("num", [10, 1001, 5000])
def test_the_curve_of_all_rows_keeps_its_head_and_its_ends_and_does_not_grow_with_the_table(num):
    first = np.random.default_rng(0).normal(size=num)
    found = tree_anomalies(pandas.DataFrame({"a": first, "b": -first}), num_explained=0)
    (curve,) = found.pictures()[0].curves
    surprise = np.sort(found.scores.surprise)[::-1]
    assert list(curve.x[:10]) == list(range(1, 11))
    assert curve.x[-1] == num
    assert len(curve.x) == min(num, MOST_POINTS)
    assert list(curve.y) == [surprise[int(rank) - 1] for rank in curve.x]
