"""The explorer's page is made from examples, from a user's run, or from claims, and never breaks out of its data."""

import json
from importlib.resources import files

import numpy as np
import pandas
import pytest
import torch

import joma
from joma.cli import main
from joma.problem.tree import balanced_tree
from joma.studies.explore_parts import CLAIMS, evidence_in, run_part, sentence_part, tree_part
from joma.train.recipes import hierarchy_recipe
from joma.train.training import train

NAME = "</script><b>mine"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    rows = [
        (NAME, step, layer, head, "attention_entropy_nats", 3 - step / 100 + head)
        for step in range(0, 101, 5)
        for layer in (0, 1)
        for head in (0, 1, 2)
    ]
    columns = ["run", "step", "layer", "head", "metric", "value"]
    pandas.DataFrame(rows, columns=columns).to_parquet(folder / "metrics.parquet")
    return folder


def data_of(page):
    """What the scripts of a page read."""
    return json.loads(page.partition('id="plots">')[2].partition("</script>")[0])


def test_the_page_of_the_examples_is_below_400_kb_and_contains_no_plotting_library():
    page = joma.explore().page()
    assert len(page.encode()) < 400_000
    assert "Plotly" not in page


def test_the_examples_have_every_claim_that_a_part_touches():
    found, source = evidence_in(files("joma.studies") / "shipped" / "claims.json")
    assert set(found) == {id for ids in CLAIMS.values() for id in ids}
    assert all(one.agreement for one in found.values())
    assert source.startswith("joma reproduce, profile quick")


def test_the_examples_say_how_they_were_made():
    for name in ("run", "tree", "claims"):
        record = json.loads((files("joma.studies") / "shipped" / f"{name}.json").read_text(encoding="utf-8"))
        assert record["command"] == "python results/explorer.py"
        assert "torch" in record["versions"]


def test_a_run_takes_the_place_of_the_example_and_its_name_stays_text(folder):
    found = joma.explore(folder)
    page = found.page()
    run = data_of(page)["run"]
    assert run["name"] == NAME
    assert NAME not in page
    assert (run["steps"][-1], len(run["rows"])) == (100, 6)
    assert run["rows"][1]["entropy"][-1] == 3.0
    assert data_of(page)["tree"] is not None
    assert len(found.frame()) == 6 * 21
    assert {"text.sparse_then_dense", "theorem2"} <= set(found.verdicts()["claim"])


def test_of_several_runs_the_longest_that_learned_a_text_is_shown(tmp_path):
    rows = [("labels", step, 0, 0, "attention_entropy_nats", 1.0) for step in range(9)]
    rows += [("labels", step, None, None, "val_accuracy", 0.5) for step in range(9)]
    rows += [("short", step, 0, 0, "attention_entropy_nats", 1.0) for step in range(3)]
    rows += [("long", step, 0, 0, "attention_entropy_nats", 1.0) for step in range(5)]
    columns = ["run", "step", "layer", "head", "metric", "value"]
    pandas.DataFrame(rows, columns=columns).to_parquet(tmp_path / "metrics.parquet")
    run = joma.explore(tmp_path).data["run"]
    assert run["name"] == "long"
    assert "2 more there" in run["made"]


def test_a_large_run_is_thinned_and_says_which_layers_are_left_out():
    steps, layers, heads = np.arange(200), np.arange(60), np.arange(64)
    places = np.array(np.meshgrid(steps, layers, heads, indexing="ij")).reshape(3, -1)
    table = pandas.DataFrame(dict(zip(("step", "layer", "head"), places, strict=True)))
    found = run_part(table.assign(run="large", metric="attention_entropy_nats", value=1.0), "large")
    assert sum(len(row["entropy"]) for row in found["rows"]) <= 25_000
    assert found["left_out"] == 60 - len({row["layer"] for row in found["rows"]}) > 0
    assert found["steps"][0] == 0
    assert found["steps"][-1] == 199


def test_a_sentence_in_a_large_network_is_thinned_and_says_what_is_left_out():
    small = {step: torch.rand(2, 2, 4, 9, 9) for step in range(0, 900, 100)}
    part = sentence_part("a sentence", [["word"] * 9] * 2, small)
    assert (part["steps"], part["has_heads"], part["left_out"]) == (sorted(small), True, "")
    large = {step: torch.full((2, 24, 16, 64, 64), 1 / 64) for step in (0, 50, 100)}
    part = sentence_part("a sentence", [["word"] * 64] * 2, large)
    assert (part["steps"], part["layers"]) == ([0, 100], [0, 23])
    assert part["left_out"] == "single heads, 22 of 24 layers"
    weights = np.array(part["weights"])
    assert weights.shape == (2, 2, 2, 1, 64, 64)
    assert (weights == 16).all()


def test_a_trained_tree_is_followed_from_its_untrained_network(tmp_path):
    law = balanced_tree((2, 2), 0.9, seed=0)
    recipe = hierarchy_recipe(law, num_steps=4, name="run", width=16, hidden=16, snapshot_every=2)
    part = tree_part(train(recipe, law, tmp_path / "run"), num_samples=200)
    assert part["steps"] == [0, 2, 4]
    assert part["gains"][0] == [[0.0, 0.0]]
    assert part["level_gains"][0] == [0.0]
    now, then = part["scores"][2][0][1], part["scores"][0][0][1]
    assert part["gains"][2][0][1] == pytest.approx((now - then) / (1 - then), abs=1e-3)
    assert data_of(joma.explore(tmp_path / "run").page())["tree"]["steps"] == [0, 2, 4]
    assert data_of(joma.show(tmp_path / "run").explorer().page())["tree"]["steps"] == [0, 2, 4]


def test_claims_of_an_output_folder_take_the_place_of_those_shipped(tmp_path, folder):
    joma.reproduce("theorem4", out=tmp_path / "out", seeds=3)
    found = joma.explore(tmp_path / "out")
    assert found.verdicts().to_dict("records")[0]["claim"] == "theorem4"
    assert len(found.verdicts()) == 1
    assert "shipped" not in found.source


def test_a_sentence_without_a_run_is_refused():
    with pytest.raises(joma.BadInput, match="no effect without a run"):
        joma.explore(sentence="the cat sat")


@pytest.mark.parametrize("has_claims", [False, True])
def test_a_sentence_in_a_folder_without_entropy_is_refused(tmp_path, has_claims):
    if has_claims:
        shipped = files("joma.studies") / "shipped" / "claims.json"
        (tmp_path / "claims.json").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    else:
        rows = [("mine", step, "val_accuracy", 1.0) for step in (0, 9)]
        pandas.DataFrame(rows, columns=["run", "step", "metric", "value"]).to_parquet(tmp_path / "metrics.parquet")
    with pytest.raises(joma.BadInput, match="no attention entropy"):
        joma.explore(tmp_path, sentence="the cat sat")


def test_a_page_is_written_to_a_file_or_as_explore_html_into_a_folder(tmp_path):
    found = joma.explore()
    assert found.write(tmp_path) == tmp_path / "explore.html"
    assert found.write(tmp_path / "mine.html") == tmp_path / "mine.html"
    assert data_of((tmp_path / "mine.html").read_text(encoding="utf-8")) == data_of(found.page())


def test_a_folder_without_measurements_is_refused(tmp_path):
    with pytest.raises(joma.BadInput, match="no measurements"):
        joma.explore(tmp_path)


def test_the_command_writes_the_page_and_says_where(tmp_path, folder, capsys):
    assert main(["explore", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 50_000
    assert (tmp_path / "page.html").as_uri() in capsys.readouterr().out
    assert main(["explore", str(tmp_path / "nowhere")]) == 2


def test_entropies_that_are_not_finite_are_gaps_that_are_counted():
    rows = [("mine", step, 0, 0, "attention_entropy_nats", value) for step, value in ((0, 2.0), (5, np.nan), (9, 1.0))]
    table = pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"])
    found = run_part(table, "mine")
    assert found["rows"][0]["entropy"] == [2.0, None, 1.0]
    assert (found["steps"], found["not_finite"]) == ([0, 5, 9], 1)


def test_a_run_whose_entropies_are_all_not_finite_has_nothing_to_show(tmp_path):
    rows = [("mine", step, 0, 0, "attention_entropy_nats", np.inf) for step in (0, 9)]
    table = pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"])
    table.to_csv(tmp_path / "lost.csv", index=False)
    with pytest.raises(joma.BadInput, match="no attention entropy"):
        joma.explore(tmp_path / "lost.csv")
