"""Reading measurements: folders of every kind, unfinished ones, tables, logs of other trainers; and refusals."""

import json
import shutil

import pandas
import pytest
import torch
from transformers import GPT2Config, GPT2Model

import joma
from joma.errors import BadInput
from joma.journal import append_line, line_of, probe_line
from joma.records import Row
from joma.studies import measurements
from joma.studies.measurements import read_measurements

COLUMNS = ["run", "step", "layer", "head", "projection", "metric", "value"]


@pytest.fixture
def watched(tmp_path):
    model = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
    with joma.watch(model, torch.randn(2, 8, 16), every=1, out=tmp_path / "mine") as probe:
        for _ in range(6):
            probe.step()
    return tmp_path / "mine"


def test_a_finished_watch_folder_is_its_table(watched):
    found, _ = read_measurements([watched])
    pandas.testing.assert_frame_equal(found, pandas.read_parquet(watched / "metrics.parquet"))


def test_a_watch_folder_without_its_table_is_read_from_the_journal(watched):
    whole, _ = read_measurements([watched])
    (watched / "metrics.parquet").unlink()
    pandas.testing.assert_frame_equal(read_measurements([watched])[0], whole)
    pandas.testing.assert_frame_equal(read_measurements([watched.parent])[0], whole)


def test_a_scan_is_read_finished_and_unfinished(tmp_path):
    config = GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4)
    for step in (0, 100):
        GPT2Model(config).save_pretrained(tmp_path / "series" / f"step{step}")
    joma.scan(tmp_path / "series", measures="stable_rank", out=tmp_path / "out")
    whole, _ = read_measurements([tmp_path / "out"])
    (tmp_path / "out" / "metrics.parquet").unlink()
    unfinished, _ = read_measurements([tmp_path / "out"])
    assert sorted(unfinished["value"]) == sorted(whole["value"])
    assert set(unfinished["step"]) == {0, 100}


def test_losses_of_a_trainer_are_added_to_the_run_that_was_watched(watched):
    history = [{"step": 2, "loss": 3.5}, {"step": 4, "eval_loss": 3.0}, {"step": 4, "train_runtime": 1.0}]
    state = watched.parent / "checkpoint-4"
    state.mkdir()
    (state / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    found, _ = read_measurements([watched.parent])
    losses = found[found["layer"].isna()]
    assert losses[["step", "metric", "value"]].values.tolist() == [
        [2, "train_loss_nats", 3.5],
        [4, "val_loss_nats", 3.0],
    ]
    assert set(losses["run"]) == {"mine"}


@pytest.mark.parametrize("entry", ["[]", '{"log_history": [{"step": 1e400, "loss": 2}]}'])
def test_damaged_logs_of_a_trainer_are_left_out_with_a_warning(watched, entry):
    (watched / "trainer_state.json").write_text(entry)
    (watched / "metrics.csv").write_bytes(b"\xff\xfe")
    with pytest.warns(UserWarning, match="its losses are left out") as caught:
        found, _ = read_measurements([watched])
    assert len(caught) == 2
    assert found["layer"].notna().all()


@pytest.mark.parametrize(("name", "content"), [("no.csv", ",".join(COLUMNS) + "\n"), ("no.csv", "step\n1\n")])
def test_tables_without_measurements_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=r"holds no measurements|has no column metric"):
        read_measurements([tmp_path / name])


def test_rows_without_a_run_belong_to_the_run_of_the_file(tmp_path):
    rows = [[None, 1, 0, 0, None, "stable_rank", 2.0], ["other", 1, 0, 0, None, "stable_rank", 3.0]]
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "mine.csv", index=False)
    assert read_measurements([tmp_path / "mine.csv"])[0]["run"].tolist() == ["mine", "other"]


def test_values_that_are_not_finite_are_reported_unless_they_have_a_reason(tmp_path):
    rows = [["mine", step, 0, 0, None, "stable_rank", 2.0 if step < 5 else None, None] for step in range(8)]
    rows += [["mine", 8, 0, 0, None, "stable_rank", None, "the matrix is 0"]]
    pandas.DataFrame(rows, columns=[*COLUMNS, "reason"]).to_parquet(tmp_path / "mine.parquet")
    texts = joma.show(tmp_path / "mine.parquet").verdicts()["text"]
    assert texts.str.startswith("NaN or infinite measurements are left out (3)").any()


def test_an_infinite_entropy_is_left_out_of_the_page(tmp_path):
    values = [3.0, 2.9, 2.8, 2.7, 2.6, 2.5, float("inf")]
    rows = [["mine", step, 0, 0, None, "attention_entropy_nats", value] for step, value in enumerate(values)]
    pandas.DataFrame(rows, columns=COLUMNS).to_parquet(tmp_path / "mine.parquet")
    found = joma.show(tmp_path / "mine.parquet")
    assert "NaN or infinite measurements are left out (1)" in found.page()
    assert len(found.phases.verdicts()) == 3


def test_a_table_of_losses_joins_the_run_of_its_name(watched):
    (watched.parent / "mine.csv").write_text("step,train_loss\n1,4.0\n2,3.0\n")
    found, _ = read_measurements([watched, watched.parent / "mine.csv"])
    assert found["run"].unique().tolist() == ["mine"]
    assert found[found["metric"] == "train_loss_nats"]["value"].tolist() == [4.0, 3.0]


def test_runs_of_one_name_in_two_folders_stay_apart(watched, tmp_path):
    other = tmp_path / "other" / "mine"
    other.parent.mkdir()
    watched.rename(other)
    model = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
    with joma.watch(model, torch.randn(2, 8, 16), every=1, out=watched) as probe:
        probe.step()
    found, _ = read_measurements([watched, other])
    assert found["run"].nunique() == 2
    assert list(found.columns) == COLUMNS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", None, "holds no measurements"),
        ("missing", "", "neither a folder nor a file"),
        ("text.txt", "hello", "is no table"),
        ("odd.csv", "a,b\n1,2\n", "has no column step"),
        ("no-metric.csv", "step,layer,value\n1,0,2\n", "no column metric, and none of losses"),
        ("unknown.csv", "step,metric,value\n1,entropy,2\n", "none of its metrics is known, such as entropy"),
        ("words.csv", "step,metric,value\n1,val_loss_nats,much\n", "cannot be read"),
        ("broken.parquet", "PAR1", "cannot be read"),
    ],
)
def test_other_things_are_refused_with_a_remedy(tmp_path, name, content, message):
    place = tmp_path / name
    if content is None:
        place.mkdir()
    elif content:
        place.write_text(content)
    with pytest.raises(BadInput, match=message):
        read_measurements([place])


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_long_table_is_read_at_some_steps_and_says_so(tmp_path, monkeypatch, kind):
    rows = {
        step: [Row(0, head, None, "attention_entropy_nats", step + head / 9) for head in range(3)]
        for step in range(400)
    }
    for step, found in rows.items():
        append_line(tmp_path / "metrics.jsonl", probe_line(step, found))
    if kind == "parquet":
        whole, _ = read_measurements([tmp_path])
        whole.to_parquet(tmp_path / "metrics.parquet", row_group_size=100)
        (tmp_path / "metrics.jsonl").unlink()
    monkeypatch.setattr(measurements, "MOST_ROWS", 120)
    monkeypatch.setattr(measurements, "MOST_BYTES", (tmp_path / f"metrics.{kind}").stat().st_size // 10)
    table, notes = read_measurements([tmp_path])
    steps = sorted(table["step"].unique())
    assert 30 <= len(steps) <= 40
    assert (steps[0], steps[1], steps[-1]) == (0, 1, 399)
    assert len(table) == 3 * len(steps)
    assert (table["value"] == table["step"] + table["head"] / 9).all()
    assert len(notes) == 1
    assert notes[0].startswith(f"{400 - len(steps)} probes of {tmp_path / f'metrics.{kind}'} are left out")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_runs_of_one_name_below_one_folder_are_kept_apart(watched, tmp_path, kind):
    for place in ("one", "two"):
        shutil.copytree(watched, tmp_path / "all" / place / "mine")
        (tmp_path / "all" / place / "mine" / f"metrics.{'jsonl' if kind == 'parquet' else 'parquet'}").unlink()
    both, _ = read_measurements([tmp_path / "all"])
    alone, _ = read_measurements([watched])
    assert both["run"].unique().tolist() == ["one/mine", "two/mine"]
    assert len(both) == 2 * len(alone)
    again, _ = read_measurements([watched, tmp_path / "all" / "one"])
    assert again["run"].nunique() == 2
    assert len(again) == 2 * len(alone)


def test_the_settings_of_training_runs_and_of_tables_are_columns(tmp_path):
    for name, rate in (("a", 1e-3), ("b", 1e-4)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        append_line(folder / "metrics.jsonl", probe_line(0, [Row(None, None, None, "val_loss_nats", 6.0)]))
        recipe = {"learning_rate": rate, "num_steps": 900, "seed": 2, "decoder": {"num_layers": 4, "mlp": True}}
        text = {"text": {"steps_per_epoch": 90}} if name == "a" else {}  # runs of older versions do not say
        (folder / "config.json").write_text(json.dumps({"recipe": recipe} | text))
    found, _ = read_measurements([tmp_path])
    settings = found.set_index("run")[["learning_rate", "num_layers", "num_steps", "seed"]]
    assert settings.to_dict("index") == {
        name: {"learning_rate": rate, "num_layers": 4, "num_steps": 900, "seed": 2}
        for name, rate in (("a", 1e-3), ("b", 1e-4))
    }
    assert found.set_index("run")["num_epochs"].dropna().to_dict() == {"a": 10}
    found.to_parquet(tmp_path / "sweep.parquet")
    again, _ = read_measurements([tmp_path / "sweep.parquet"])
    pandas.testing.assert_frame_equal(again, found)


def test_a_sweep_s_table_that_is_not_written_yet_names_the_runs(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(BadInput, match=r"writes it at the end: until then, name .*runs/\*"):
        read_measurements([tmp_path / "sweep.parquet"])


def test_runs_of_a_sweep_say_what_became_of_them(tmp_path):
    for name in ("a", "b", "c"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        append_line(folder / "metrics.jsonl", probe_line(0, [Row(None, None, None, "val_loss_nats", 6.0)]))
        (folder / "config.json").write_text('{"recipe": {"learning_rate": 0.1, "decoder": {}}}')
    for name, status in (("a", "failed"), ("b", "failed"), ("b", "finished")):
        outcome = {"run": name, "status": status, "reason": "", "seconds": None, "from_step": None}
        append_line(tmp_path / "outcomes.jsonl", line_of(outcome))
    found, _ = read_measurements([tmp_path])
    assert found.set_index("run")["status"].dropna().to_dict() == {"a": "failed", "b": "finished"}


@pytest.mark.parametrize("text", ['{"recipe": "bread"}', '{"recipe": {"decoder": {}}, "text": "bread"}'])
def test_a_configuration_that_is_no_training_run_adds_no_column(watched, text):
    (watched / "config.json").write_text(text)
    assert "learning_rate" not in read_measurements([watched])[0]
