"""`joma tree learn` and `joma tree anomalies` from outside: numbers, files, refusals."""

import json

import numpy as np
import pandas
import pytest

from joma.cli import main

NUM = 1500
RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=NUM)
FRAME = pandas.DataFrame({"a": FIRST, "b": FIRST + 0.1 * RNG.normal(size=NUM), "c": RNG.normal(size=NUM)})
FRAME["colour"] = np.where(FIRST > 0.5, "warm", "cold")
FRAME.loc[5, "c"] = np.nan
FRAME.loc[7, ["a", "b", "colour"]] = [2.0, -2.0, "warm"]  # usual values that do not go together


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    FRAME.to_csv(path, index=False)
    return str(path)


def said(capsys, *words):
    assert main(["tree", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("method", ["chow-liu", "neighbour-joining"])
def test_learn_writes_the_tree_with_its_picture(capsys, tmp_path, table, method):
    if method == "neighbour-joining":
        pytest.importorskip("skbio", reason="the extra trees")
    found = said(capsys, "learn", table, "--method", method, "--bootstraps", "20", "--out", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "tree.json").read_text()) == found
    files = {"report.html", "explorer.html", "tree.json", "tree.svg", "tree.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert found["columns"] == ["a", "b", "c", "colour"]
    assert found["num_bootstraps"] == 20
    if method == "chow-liu":
        assert [(edge["one"], edge["other"], edge["support"]) for edge in found["edges"][:1]] == [("a", "b", 1.0)]


def test_learn_prints_edges_and_a_sentence(capsys, table):
    assert main(["tree", "learn", table, "--bootstraps", "5"]) == 0
    printed = capsys.readouterr().out
    assert "mutual information (nats)" in printed
    assert "4 columns, 1,500 rows" in printed


def test_anomalies_writes_rows_by_score_with_the_columns_responsible(capsys, tmp_path, table):
    found = said(capsys, "anomalies", table, "--rows", "3", "--out", str(tmp_path / "out"))
    assert found["rows"][0]["row"] == 7
    assert found["explained"][0]["row"] == 7
    assert found["explained"][0]["columns"][0]["name"] in ("a", "b")
    assert {found["explained"][0]["edges"][0]["one"], found["explained"][0]["edges"][0]["other"]} <= {
        "a",
        "b",
        "colour",
    }
    rows = pandas.read_parquet(tmp_path / "out" / "rows.parquet")
    assert rows["surprise_nats"].is_monotonic_decreasing
    assert sorted(rows["row"]) == list(range(NUM))
    assert rows["columns"].notna().sum() == 3
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".html", ".json", ".parquet", ".svg", ".png"}


def test_one_row_is_scored_with_a_table_of_normal_rows(capsys, tmp_path, table):
    odd = tmp_path / "odd.csv"
    odd.write_text("a,b,c,colour\n2,-2,0,warm\n")
    row = said(capsys, "anomalies", str(odd), "--normal", table)["rows"][0]
    assert row["share_of_normal"] <= 0.002


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "cannot be read"),
        ("a,b\n1,2\n", "1 row; expected at least 10"),
        ("a,b\n" + "1,2\n" * 20, "is constant"),
        ("a,a\n1,2\n2,3\n", "two columns"),
        ("day,note\n" + "".join(f"2024-01-{day:02},note {day}\n" for day in range(1, 21)), "holds dates"),
    ],
)
@pytest.mark.parametrize("command", ["learn", "anomalies"])
def test_a_table_without_relations_is_refused_in_one_line(capsys, tmp_path, command, content, problem):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert main(["tree", command, str(path)]) == 2
    printed = capsys.readouterr().err
    assert problem in printed
    assert printed.count("\n") == 1
