"""The pages of learned trees: every edge with its support, how it was made, and nothing but text from the table."""

import re

import numpy as np
import pandas
import pytest

from joma.studies.trees import learn_tree
from linking import explorer_of

ODD = "<script>alert(1)</script>"
FIRST = np.random.default_rng(0).normal(size=300)
FRAME = pandas.DataFrame({"first": FIRST, ODD: FIRST + np.random.default_rng(1).normal(size=300) / 5})
FRAME["kind"] = np.where(FIRST > 0, "high & wide", "low")
FRAME["same"] = 1


@pytest.mark.parametrize("method", ["chow-liu", "neighbour-joining"])
def test_the_page_has_every_edge_with_its_support_and_how_the_tree_was_made(tmp_path, method):
    if method == "neighbour-joining":
        pytest.importorskip("skbio", reason="the extra trees")
    with pytest.warns(UserWarning, match="same"):
        found = learn_tree(FRAME.assign(other=-FIRST), method=method, num_bootstraps=10, seed=3)
    path = found.write(tmp_path, "a <table>")
    assert explorer_of(path).is_file()
    page = path.read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    assert ODD not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    for said in ("a &lt;table&gt;", "10 bootstrap samples, seed 3", "same is constant", "300"):
        assert said in body
    supports = [f"{edge.support:.0%}" for edge in found.edges if edge.support is not None]
    cells = re.findall(r"<td[^>]*>(\d+%)</td>", body)
    assert sorted(cells) == sorted(supports)
    assert ("data:image/svg+xml" in body) == (method == "neighbour-joining")  # whose lengths only the picture shows


def test_without_bootstrap_samples_the_page_says_that_support_was_not_measured(tmp_path):
    page = learn_tree(FRAME.drop(columns="same"), num_bootstraps=0).write(tmp_path).read_text(encoding="utf-8")
    assert "not measured" in page
    assert "Support is the share" not in page
