"""`joma tree learn` for ratings, from outside."""

import json

import pandas
import pytest
from matplotlib.image import imread
from planted_tastes import GROUPS, planted_likes

from joma.cli import main


@pytest.fixture
def path(tmp_path):
    likes = planted_likes(300)
    rows = [
        (user, item, 5, f"Item {item}", f"group {GROUPS[item]}") for user, item in zip(*likes.nonzero(), strict=True)
    ]
    pandas.DataFrame(rows, columns=["user", "item", "value", "title", "genres"]).to_csv(tmp_path / "r.csv", index=False)
    return tmp_path / "r.csv"


def test_ratings_are_recognised_by_their_columns_and_drawn_with_titles(path, tmp_path, capsys):
    assert main(["tree", "learn", str(path), "--clusters", "8", "--least", "5", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "Item 3" in printed
    assert "group 3 100% (12%)" in printed
    assert "300 users, 80 items" in printed
    record = json.loads((tmp_path / "out" / "tree.json").read_text())
    assert (len(record["clusters"]), record["num_items"]) == (8, 80)
    assert (imread(tmp_path / "out" / "tree.png")[..., :3].min(-1) < 0.9).mean() > 0.01
    assert "Item 3" in (tmp_path / "out" / "tree.svg").read_text()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(
        text in page for text in ("group 3 100% (12%)", "four fifths", "at least 5 ratings", "data:image/svg+xml")
    )


def test_json_is_printed_alone(path, capsys):
    assert main(["tree", "learn", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["clusters"]) == 16  # a fifth of 80 items


def test_the_users_own_names_of_columns_are_taken_and_ids_keep_their_zeros(path, tmp_path, capsys):
    frame = pandas.read_csv(path, dtype=str).rename(columns={"user": "customer", "item": "product", "value": "stars"})
    frame["product"] = "0" + frame["product"]
    frame.drop(columns="title").to_csv(tmp_path / "own.csv", index=False, sep=";")
    names = [f"--column={name}" for name in ("user=customer", "item=product", "value=stars")]
    assert main(["tree", "learn", str(tmp_path / "own.csv"), *names, "--json"]) == 0
    clusters = json.loads(capsys.readouterr().out)["clusters"]
    assert all(title.startswith("0") for cluster in clusters for title in cluster["titles"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bins", "4"], "--bins has no effect on ratings"),
        (["--clusters", "99"], "--clusters is 99"),
        (["--least", "1000"], "0 items have at least 1000 ratings"),
        (["--like", "6"], "no user likes two of the items"),
        (["--column", "stars"], "--column stars names no column"),
        (["--column", "value=stars"], "no column 'stars'; it has user, item, value"),
    ],
)
def test_what_cannot_be_done_with_ratings_is_refused(path, capsys, words, message):
    assert main(["tree", "learn", str(path), *words]) == 2
    assert message in capsys.readouterr().err


def test_options_for_ratings_are_refused_for_other_tables(tmp_path, capsys):
    pandas.DataFrame({"a": [1, 2, 3], "b": [1, 3, 2]}).to_csv(tmp_path / "t.csv", index=False)
    assert main(["tree", "learn", str(tmp_path / "t.csv"), "--like", "4"]) == 2
    assert "--like is for ratings" in capsys.readouterr().err
    assert main(["tree", "learn", str(tmp_path / "t.csv"), "--ratings"]) == 2
    assert "no column user or item or value" in capsys.readouterr().err


def test_the_usual_names_of_ratings_are_noticed_and_clusters_of_one_item_have_no_similarity(path, capsys):
    frame = pandas.read_csv(path).rename(columns={"user": "userId", "item": "movieId", "value": "rating"})
    frame["rating"] += frame.index % 2
    frame.to_csv(path, index=False)
    assert main(["tree", "learn", str(path), "--bootstraps", "0"]) == 0
    assert "--ratings learns a tree of items" in capsys.readouterr().err
    assert main(["tree", "learn", str(path), "--ratings", "--like", "5", "--clusters", "80"]) == 0
    assert "no cluster has two, any two items have a similarity of" in capsys.readouterr().out.replace("\n", " ")
