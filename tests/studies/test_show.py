"""`joma.show` and `joma.phases`: what they say of a table, and the page."""

import numpy as np
import pandas
import pytest

import joma
from joma.errors import InvalidArgument

STEPS = np.arange(0, 3001, 50)


def table(run="mine", collapsed=(), layers=3, heads=2):
    generator = np.random.default_rng(0)
    rows = []
    for layer in range(layers):
        values = np.interp(STEPS, [0, 600, 1500, 3000], [4.0, 4.0, 1.5, 2.5])
        values = 4 * np.exp(-STEPS / 300) if layer in collapsed else values
        for head in range(heads):
            noisy = np.maximum(values + generator.normal(0, 0.01, len(STEPS)), 0)
            rows += [(run, s, layer, head, "attention_entropy_nats", v) for s, v in zip(STEPS, noisy, strict=True)]
    rows += [(run, s, None, None, "val_loss_nats", 3 + 7 * np.exp(-s / 600)) for s in STEPS]
    return pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"])


@pytest.fixture
def csv(tmp_path):
    table(collapsed=[1]).to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv"


def test_phases_have_a_row_for_the_network_each_layer_and_each_head():
    now = joma.phases(table(collapsed=[1])).verdicts()
    assert len(now) == 1 + 3 + 6
    whole, layers, heads = now.iloc[:1], now[now["layer"].notna() & now["head"].isna()], now[now["head"].notna()]
    assert whole["phase"].tolist() == ["densifying"]
    assert layers["phase"].tolist() == ["densifying", "collapsed", "densifying"]
    assert set(heads[heads["layer"] == 1]["phase"]) == {"collapsed"}


def test_phases_of_several_runs_stand_in_one_table():
    found = joma.phases(pandas.concat([table("a"), table("b", collapsed=[0, 1, 2])]))
    now = found.verdicts()
    assert now[now["layer"].isna()]["phase"].tolist() == ["densifying", "collapsed"]
    assert [picture.title for picture in found.pictures()] == [
        f"Attention entropy of {run}, and its phases" for run in "ab"
    ]


def test_suspect_steps_and_groups_are_left_out_of_phases():
    frame = table()
    spoilt = frame[frame["step"] == 3000].assign(value=0.0, suspect="identical")
    assert joma.phases(pandas.concat([frame, spoilt])).verdicts()["phase"].iloc[0] == "densifying"


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(InvalidArgument, match="a table without layer, head"):
        joma.phases(table().drop(columns=["layer", "head"]))


def test_verdicts_of_a_shown_run_name_the_collapse_first(csv):
    found = joma.show(csv)
    verdicts = found.verdicts()
    assert verdicts["kind"].iloc[0] == "problem"
    assert "layer 1 collapsed" in verdicts["text"].iloc[0]
    assert "layer 1 collapsed" in found.summary()
    assert len(repr(found).splitlines()) <= 2


def test_every_picture_of_a_shown_run_can_be_drawn(csv):
    found = joma.show(csv)
    names = [picture.id for picture in found.pictures()]
    assert {"loss", "attention_entropy_nats", "attention_entropy_nats_steps_layers"} <= set(names)
    assert found.plot("loss").has_data()


def test_many_layers_with_the_same_problem_are_named_together(tmp_path):
    table(collapsed=range(3, 12), layers=12, heads=1).to_csv(tmp_path / "mine.csv", index=False)
    said = joma.show(tmp_path / "mine.csv").verdicts().query("rule == 'collapse'")
    assert len(said) == 4
    assert said["text"].iloc[-1].startswith("The same holds for 6 more layers since step")


def test_pictures_of_several_runs_do_not_overwrite_each_other(tmp_path):
    for run in ("a-b", "a_b", "c"):
        table(run).to_csv(tmp_path / f"{run}.csv", index=False)
    names = [picture.id for picture in joma.show(*sorted(tmp_path.glob("*.csv"))).pictures()]
    assert len(set(names)) == len(names)
    assert sum(name.endswith("_attention_entropy_nats_layers_heads") for name in names) == 3
    assert {"compared_loss", "c_2_loss"} <= set(names)


def test_the_page_holds_sentences_small_curves_and_frames_and_escapes_names(tmp_path):
    table("<b>mine</b>", collapsed=[1]).to_csv(tmp_path / "t.csv", index=False)
    page = joma.show(tmp_path / "t.csv").write(tmp_path).read_text()
    assert "layer 1 collapsed" in page
    assert page.count("<polyline") == 6
    assert "<b>mine</b>" not in page
    assert '"frames":' in page


def test_several_runs_are_compared_on_one_page(tmp_path):
    for name, collapsed in (("sound", []), ("broken", [0, 1, 2])):
        table(name, collapsed).to_csv(tmp_path / f"{name}.csv", index=False)
    page = joma.show(tmp_path / "sound.csv", tmp_path / "broken.csv").page()
    assert "denser again" in page
    assert "collapsed" in page


def test_several_runs_are_compared_in_one_chart_each_of_loss_and_entropy(tmp_path):
    for run in ("a", "b"):
        table(run).to_csv(tmp_path / f"{run}.csv", index=False)
    one, both = joma.show(tmp_path / "a.csv"), joma.show(tmp_path / "a.csv", tmp_path / "b.csv")
    assert not [picture.id for picture in one.pictures() if picture.id.startswith("compared")]
    loss, entropy = both.pictures()[:2]
    assert [curve.label for curve in loss.curves] == [curve.label for curve in entropy.curves] == ["a", "b"]
    assert loss.curves[0].y[-1] == pytest.approx(3 + 7 * np.exp(-5))
    assert "Compared" in both.page()
    assert both._repr_html_().count("data:image/svg+xml") == 4


def test_several_runs_of_a_grid_have_a_forecast_of_the_best_one(tmp_path):
    tables = []
    for rate in (1e-5, 1e-4, 1e-3, 1e-2):
        loss = 2 + 4 / np.sqrt(1 + 3e4 * rate * STEPS / 10) + 30 * rate
        rows = {"run": f"lr {rate:g}", "step": STEPS, "metric": "val_loss_nats", "value": loss, "learning_rate": rate}
        tables.append(pandas.DataFrame(rows).assign(layer=None, head=None, num_layers=1, num_steps=60_000))
    pandas.concat(tables).to_csv(tmp_path / "sweep.csv", index=False)
    found = joma.show(tmp_path / "sweep.csv")
    said = found.verdicts().query("rule == 'forecast'")
    assert said["run"].tolist() == ["lr 0.0001"]
    assert "lr 0.0001 (learning rate 0.0001) is predicted to end" in said["text"].iloc[0]
    assert said["text"].iloc[0] in found.summary()
    pandas.concat(tables[:2]).to_csv(tmp_path / "two.csv", index=False)
    assert "forecast" not in set(joma.show(tmp_path / "two.csv").verdicts()["rule"])
