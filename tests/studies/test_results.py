"""What every result offers: a table, verdicts, pictures of both kinds, a short repr and HTML that escapes."""

import matplotlib
import numpy as np
import pandas
import plotly.graph_objects
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from transformers import GPT2Config, GPT2Model

import joma

matplotlib.use("Agg")
CONFIG = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "a<b>&c"  # a name that HTML must escape
    for step in (0, 100, 200, 300):
        torch.manual_seed(step)
        GPT2Model(GPT2Config(**CONFIG)).save_pretrained(folder / f"step{step}")
    return folder


def watched():
    torch.manual_seed(0)
    model = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
    with joma.watch(model, torch.randn(2, 8, 16), every=1) as probe:
        for _ in range(5):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.1)
            probe.step()
    return probe


def learned_tree():
    steps = np.random.default_rng(0).normal(size=(60, 3))
    return joma.learn_tree(steps.cumsum(1), num_bootstraps=5)


def aligned():
    latents = np.random.default_rng(0).normal(size=(60, 3))
    return joma.alignment(np.concatenate([latents, latents**2], axis=1), latents, num_permutations=19)


@pytest.fixture(scope="module")
def results(series, tmp_path_factory):
    return {
        "scan": joma.scan(series, measures="stable_rank"),
        "verify": joma.verify(series),
        "watch": watched(),
        "solve": joma.solve([0, 4, 8, 16], mu=[3, 2, 1, 0.5]),
        "alignment": aligned(),
        "learn_tree": learned_tree(),
        "reproduce": joma.reproduce("theorem3", "theorem4", out=tmp_path_factory.mktemp("evidence") / "out"),
    }


ALL = ["scan", "verify", "watch", "solve", "alignment", "learn_tree", "reproduce"]


@pytest.mark.parametrize("name", ALL)
def test_a_result_has_tables_and_a_repr_of_at_most_two_lines(results, name):
    found = results[name]
    assert isinstance(found.frame(), pandas.DataFrame)
    assert len(found.verdicts()) > 0
    lines = repr(found).splitlines()
    assert 1 <= len(lines) <= 2
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith(type(found).__name__)


@pytest.mark.parametrize("name", ALL)
def test_every_picture_is_drawn_on_axes_and_as_a_figure_that_moves(results, name):
    found = results[name]
    pictures = found.pictures()
    for picture in (pictures[0], pictures[-1]):
        own = Figure().subplots()
        assert found.plot(picture.id, ax=own) is own
        assert own.has_data()
        if picture.id != "tree":
            assert isinstance(found.plot(picture.id, interactive=True), plotly.graph_objects.Figure)
    assert isinstance(found.plot(), Axes)


@pytest.mark.parametrize("name", ALL)
def test_html_holds_the_summary_the_verdicts_and_a_picture(results, name):
    page = results[name]._repr_html_()
    assert type(results[name]).__name__ in page
    assert "<table" in page
    assert "<svg" in page or "<img" in page
    assert "<script" not in page


@pytest.mark.parametrize("name", ["scan", "verify"])
def test_html_escapes_what_comes_from_outside(results, name):
    page = results[name]._repr_html_()
    assert "a<b>" not in page
    assert "a&lt;b&gt;&amp;c" in page


def test_a_picture_that_is_not_there_is_refused_with_the_nearest_name(results):
    with pytest.raises(joma.InvalidArgument, match="did you mean"):
        results["solve"].plot(results["solve"].pictures()[0].id + "x")
    empty = results["scan"]
    with pytest.raises(joma.BadInput, match="nothing to draw"):
        type(empty)(**{**vars(empty), "results": ()}).plot()


def test_a_tree_is_drawn_with_its_names_and_refused_as_a_figure_that_moves(results):
    axes = results["learn_tree"].plot()
    assert {"0", "1", "2"} <= {text.get_text() for text in axes.texts}
    assert axes.figure.get_size_inches().tolist() == [6.4, pytest.approx(axes.get_ylim()[1])]
    with pytest.raises(joma.BadInput, match="another picture"):
        results["learn_tree"].plot(interactive=True)


def test_a_notebook_shows_every_picture_and_those_of_its_own():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cells = (
        "import joma; found = joma.solve([0, 4, 8, 16], mu=[3, 2, 1, 0.5]); found.plot()",
        "found.plot()",
        "import matplotlib.pyplot; matplotlib.pyplot.plot([0, 1])",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    shown = [["image/png" in output.get("data", {}) for output in cell.outputs] for cell in notebook.cells]
    assert [sum(cell) for cell in shown] == [1, 1, 1]


def test_tables_of_a_scan_and_of_a_watch_can_be_concatenated(results):
    both = pandas.concat([results["scan"].frame(), results["watch"].frame()], ignore_index=True)
    assert {"run", "step", "layer", "head", "projection", "metric", "value"} <= set(both.columns)
    assert both["head"].dtype == both["layer"].dtype == "Int32"


def test_a_claim_is_drawn_by_its_id_and_each_of_its_charts_by_both_ids(results):
    found = results["reproduce"]
    charts = [picture.id for picture in found.pictures()]
    assert {"theorem3", "theorem4"} <= set(charts)
    assert any(id.startswith("theorem4/") for id in charts)
    assert found.plot("theorem4").get_title("left")
    assert found.verdicts()["claim"].tolist() == ["theorem3", "theorem4"]


def test_verdicts_of_curves_are_numbers_in_columns_of_their_own(results):
    found = results["scan"].verdicts()
    assert found["layer"].dtype == "Int32"
    assert {"fall", "fall_low", "fall_high", "rise", "rise_low", "rise_high"} <= set(found.columns)
    assert found["fall"].dtype == float


def test_a_callback_can_be_shown_before_training_begins():
    probe = joma.TrainerWatch({"input_ids": torch.zeros(1, 4, dtype=torch.long)})
    assert "training has not begun" in probe._repr_html_()
    assert "training has not begun" in repr(probe)
