"""`joma scan` from outside: what it writes and prints, that it resumes, and messages on bad input."""

import json
import math
import re
import shutil

import pandas
import pytest
import torch
from faulty_series import HUB, copy_weights, cut_off, set_number, write_series
from hub_client import point_to
from hub_server import Fault, local_hub
from safetensors.torch import load_file, save_file
from scanned_series import write_scannable, write_tokenizer
from tiny import tiny_law, tiny_law_recipe
from transformers import ResNetConfig, ResNetModel

from full_disk import full_disk
from joma.cli import main
from joma.errors import BadInput
from joma.studies.scan import chosen_steps
from joma.train.training import train
from linking import explorer_of

STEPS = (0, 4, 10, 20, 40, 60)
SMALL = ["--length", "24", "--sequences", "4"]
MEASURES = "attention_entropy_nats,attention_first_token_share,stable_rank,val_loss_nats"
PLAIN = [*SMALL, "--measures", "val_loss_nats"]  # no pictures to draw


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "series"
    write_scannable(folder)
    return folder


@pytest.fixture
def own(series, tmp_path):
    return shutil.copytree(series, tmp_path / "own")


@pytest.fixture(scope="module")
def scanned(series):
    out = series.with_name("out")
    assert main(["scan", str(series), *SMALL, "--measures", MEASURES, "--out", str(out)]) == 0
    return out


def printed(capsys, *words, status=0):
    assert main(["scan", *map(str, words)]) == status
    return capsys.readouterr()


def refusal(capsys, *words):
    return printed(capsys, *words, status=2).err


def test_the_table_is_tidy(scanned):
    frame = pandas.read_parquet(scanned / "metrics.parquet")
    assert list(frame.columns) == ["run", "step", "layer", "head", "projection", "metric", "value", "group"]
    assert set(frame["run"]) == {"series"}
    assert set(frame["step"]) == set(STEPS)
    assert frame["value"].notna().all()
    entropy = frame[frame["metric"] == "attention_entropy_nats"]
    assert len(entropy) == len(STEPS) * 2 * 4 * 5  # layers, heads, all sequences and each of four groups
    assert entropy[["layer", "head"]].notna().all().all()
    rank = frame[(frame["metric"] == "stable_rank") & (frame["projection"] == "mlp_lower")]
    assert len(rank) == len(STEPS) * 2
    assert frame[frame["metric"] == "val_loss_nats"]["layer"].isna().all()


def test_the_record_is_json_and_agrees_with_the_table(scanned):
    record = json.loads((scanned / "scan.json").read_text())
    assert record["failed"] == []
    assert [entry["step"] for entry in record["measured"]] == list(STEPS)
    assert {entry["layer"] for entry in record["verdicts"]} == {0, 1}
    frame = pandas.read_parquet(scanned / "metrics.parquet")
    mean = next(
        entry for entry in record["means"] if (entry["metric"], entry["layer"]) == ("attention_first_token_share", 1)
    )
    of_step = (
        frame[(frame["metric"] == "attention_first_token_share") & (frame["layer"] == 1) & frame["group"].isna()]
        .groupby("step")["value"]
        .mean()
    )
    assert mean["value"] == pytest.approx(list(of_step), rel=1e-12)
    assert record["bytes_read"] > 0
    assert record["bytes_stored"] > 0


def test_pictures_and_page_are_there(scanned):
    assert f"Shown: series in {scanned.with_name('series')}." in explorer_of(scanned / "report.html").read_text()
    assert (scanned / "report.html").read_text().count('class="plot"') > 10
    names = {path.stem for path in (scanned / "figures").iterdir()}
    assert {"attention_entropy_nats_steps_layers", "attention_entropy_nats_layers_heads"} <= names
    assert {path.suffix for path in (scanned / "figures").iterdir()} == {".svg", ".png"}


def test_a_second_run_measures_nothing_again(series, tmp_path, capsys):
    words = (series, *PLAIN, "--json", "--out", tmp_path / "out")
    printed(capsys, *words)
    before = (tmp_path / "out" / "scan.jsonl").read_bytes()
    record = json.loads(printed(capsys, *words).out)
    assert (tmp_path / "out" / "scan.jsonl").read_bytes() == before
    assert [entry["step"] for entry in record["measured"]] == list(STEPS)


def test_a_damaged_step_is_a_row_and_the_others_go_on_until_it_is_mended(own, tmp_path, capsys):
    whole = (own / "step20" / "model.safetensors").read_bytes()
    cut_off(own / "step20" / "model.safetensors")
    words = (own, *PLAIN, "--out", tmp_path / "out")
    shown = printed(capsys, *words)
    assert "Suspects" in shown.out
    assert "Steps that could not be measured" in shown.out
    frame = pandas.read_parquet(tmp_path / "out" / "metrics.parquet")
    failed = frame[frame["reason"].notna()]
    assert list(failed["step"]) == [20]
    assert failed["value"].isna().all()
    assert set(frame["step"]) == set(STEPS)
    (own / "step20" / "model.safetensors").write_bytes(whole)
    lines = len((tmp_path / "out" / "scan.jsonl").read_bytes().splitlines())
    assert "could not be measured" not in printed(capsys, *words).out
    assert len((tmp_path / "out" / "scan.jsonl").read_bytes().splitlines()) == lines + 1


def test_a_step_whose_weights_were_replaced_is_measured_again_with_a_warning(own, tmp_path, capsys):
    words = (own, *PLAIN, "--steps", "20,40", "--out", tmp_path / "out")
    printed(capsys, *words)
    copy_weights(own / "step10", own / "step20")
    shown = printed(capsys, *words)
    assert "step 20: weights or configuration were written again since they were measured; measuring again" in shown.err
    printed(capsys, *words[:-1], tmp_path / "fresh")
    found, fresh = (pandas.read_parquet(tmp_path / name / "metrics.parquet") for name in ("out", "fresh"))
    assert found["value"].equals(fresh["value"])


ODD = "layers.\x1b[31m.\x9b2J.\u202e.[bold]weight[/nonsense]"


@pytest.mark.parametrize(
    "options", [("--verify",), ("--measures", "stable_rank"), ("--measures", "stable_rank", "--json")]
)
def test_a_tensor_name_cannot_command_the_terminal_or_turn_a_line_around(own, tmp_path, monkeypatch, capsys, options):
    monkeypatch.setenv("COLUMNS", "400")  # so that no name is folded
    for step in STEPS[1:]:  # which the first step lacks
        weights = own / f"step{step}" / "model.safetensors"
        save_file({**load_file(weights), ODD: torch.full((4, 4), math.nan)}, weights, {"format": "pt"})
    named = own.rename(own.with_name("series \x1b[1m\u202e[-nonsense]"))
    out = () if options[0] == "--verify" else ("--out", tmp_path / "out")
    main(["scan", *map(str, (named, *options, *out))])
    shown = capsys.readouterr()
    assert "series \\u001b[1m\\u202e[-nonsense]" in shown.out
    assert "layers.\\u001b[31m.\\u009b2J.\\u202e." in shown.out
    assert not set("\x1b\x9b\u202e") & set(shown.out + shown.err)
    if out:
        assert not set("\x1b\x9b\u202e") & set((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    if "--json" in options:
        assert json.loads(shown.out)["source"] == str(named)


def without(*names):
    return lambda place: [(place / name).unlink() for name in names]


def cut(name):
    return lambda place: cut_off(place / name)


@pytest.mark.parametrize(
    ("spoil", "measured"),
    [
        (without("model.safetensors", "tokenizer.json"), STEPS[:-1]),  # killed while it was being saved
        (without("config.json", "tokenizer.json"), STEPS[:-1]),
        (cut("config.json"), STEPS[:-1]),
        (without("tokenizer.json"), STEPS),
        (cut("tokenizer.json"), STEPS),
    ],
    ids=["no weights", "no configuration", "half a configuration", "no tokenizer", "half a tokenizer"],
)
def test_a_last_step_that_is_not_whole_keeps_no_other_from_being_measured(own, tmp_path, capsys, spoil, measured):
    for step in STEPS:
        shutil.copy(own / "tokenizer.json", own / f"step{step}")
    (own / "tokenizer.json").unlink()
    spoil(own / "step60")
    printed(capsys, own, *SMALL, "--measures", "val_loss_nats", "--out", tmp_path / "out")
    frame = pandas.read_parquet(tmp_path / "out" / "metrics.parquet")
    assert set(frame["step"][frame["value"].notna()]) == set(measured)
    assert set(frame["step"]) == set(STEPS)


def test_weights_alone_need_no_tokenizer_and_no_whole_last_step(own, tmp_path, capsys):
    (own / "tokenizer.json").unlink()
    (own / "step60" / "config.json").unlink()
    words = ("--measures", "weights", "--steps", "40,60", "--json")
    record = json.loads(printed(capsys, own, *words, "--out", tmp_path / "out").out)
    assert [entry["step"] for entry in record["failed"]] == [60]


def test_a_single_step_shares_its_folder_with_the_others(series, tmp_path, capsys):
    words = (series, *PLAIN, "--out", tmp_path / "out")
    printed(capsys, *words, "--steps", "40")
    printed(capsys, *words, "--steps", "0,40")
    assert set(pandas.read_parquet(tmp_path / "out" / "metrics.parquet")["step"]) == {0, 40}


def test_a_source_that_is_one_model_takes_every_core_and_a_step_of_a_series_one(series, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    for place, num_threads in ((series, 1), (series / "step40", 5), (series / "step40" / "model.safetensors", 5)):
        options = ["--measures", "stable_rank", "--out", str(tmp_path / place.name)]
        options += ["--steps", "40"] if place == series else []
        assert main(["scan", str(place), *options]) == 0
        assert json.loads((tmp_path / place.name / "scan.json").read_text())["settings"]["num_threads"] == num_threads


def test_an_interruption_keeps_what_is_done(own, tmp_path, capsys, monkeypatch):
    from joma.measure.scan import engines

    measure, done = engines.measure_step, []

    def interrupted(plan, step, report):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(step)
        return measure(plan, step, report)

    words = (own, *PLAIN, "--out", tmp_path / "out")
    monkeypatch.setattr(engines, "measure_step", interrupted)
    assert "what was written to a folder is kept" in printed(capsys, *words, status=130).err
    assert set(pandas.read_parquet(tmp_path / "out" / "metrics.parquet")["step"]) == {0, 4}
    monkeypatch.setattr(engines, "measure_step", measure)
    printed(capsys, *words)
    assert set(pandas.read_parquet(tmp_path / "out" / "metrics.parquet")["step"]) == set(STEPS)


def test_verify_alone(series, own, capsys):
    shown = printed(capsys, series, "--verify")
    assert re.search(r"nothing suspicious in 6 steps; \S+ kB read of \S+ kB stored", shown.out)
    copy_weights(own / "step60", own / "step0")
    shown = printed(capsys, own, "--verify", status=1)
    assert "identical" in shown.out
    assert re.search(r"\S+ kB read of \S+ kB stored", shown.out)
    record = json.loads(printed(capsys, own, "--verify", "--json", status=1).out)
    assert record["rows"][0]["step"] == 0


@pytest.mark.slow
def test_a_step_with_the_weights_of_another_is_in_the_table_but_in_no_verdict(own, tmp_path, capsys):
    copy_weights(own / "step60", own / "step0")
    words = (own, "--measures", "spectral_norm,stable_rank", "--out", tmp_path / "out")
    said = printed(capsys, *words)
    assert "Without step 0 (identical, not initialisation), which is suspect." in said.out
    assert "curves and verdicts go without 1; going on" in said.err
    frame = pandas.read_parquet(tmp_path / "out" / "metrics.parquet")
    assert set(frame["step"]) == set(STEPS)
    assert set(frame["suspect"][frame["step"] == 0]) == {"identical, not_initialisation"}
    before = json.loads((tmp_path / "out" / "scan.json").read_text())
    lines = (tmp_path / "out" / "scan.jsonl").read_bytes()
    after = json.loads(printed(capsys, *words, "--with-suspects", "--json").out)
    assert (tmp_path / "out" / "scan.jsonl").read_bytes() == lines  # measured already
    starts = [[entry["start"] for entry in record["verdicts"]] for record in (before, after)]
    assert len(starts[0]) == len(starts[1]) > 0
    assert starts[0] != starts[1]
    assert after["suspect_note"].startswith("Includes step 0")


def test_one_model_is_measured_without_a_verdict(series, tmp_path, capsys):
    shutil.copytree(series / "step60", tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    shown = printed(
        capsys, tmp_path / "model", *SMALL, "--measures", "attention_entropy_nats", "--out", tmp_path / "out"
    ).out
    assert "this is one model" in shown
    record = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert record["verdicts"] == []
    assert record["why_no_verdict"]
    assert record["means"]


def test_a_series_with_one_step_says_why_there_is_no_verdict(series, tmp_path, capsys):
    shown = printed(capsys, series, "--steps", "40", "--measures", "stable_rank", "--out", tmp_path / "out").out
    assert "No verdict: 1 measured step" in shown
    assert "Step 40" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measures", "entrpy"], "there is no metric 'entrpy'"),
        (["--measures", "stable_rnk"], "did you mean 'stable_rank'?"),
        (["--measures", "STABLE_RANK"], "did you mean 'stable_rank'?"),
        (["--measures", "Wieghts"], "did you mean 'weights'?"),
        (["--length", "33"], "longer than the model's context"),
        (["--sequences", "100000", "--length", "32"], "give a longer text with --text"),
        (["--steps", "5"], "take one of the nearest"),
        (["--steps", "5:59:50"], "--steps is 5:59:50, which names no step"),
        (["--steps", "1-2"], "--steps is '1-2'"),
        (["--measures", "weights", "--length", "8"], "--length has no effect on weights"),
        (["--verify", "--length", "8"], "--length has no effect with --verify"),
        (["--verify", "--with-suspects"], "--with-suspects has no effect with --verify"),
        (["--verify", "--measures", "loss"], "--measures has no effect with --verify"),
        (["--verify", "--engine", "ray"], "--engine has no effect with --verify"),
        (["--verify", "--device", "auto"], "--device has no effect with --verify"),
        (["--keep"], "--keep has no effect on a folder"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--tokenizer", "nowhere.json"], "nowhere.json"),
    ],
    ids=" ".join,
)
def test_bad_input_gets_a_message_with_a_remedy(series, tmp_path, capsys, words, said):
    assert said in refusal(capsys, series, *words, "--out", tmp_path / "out") if "--verify" not in words else True
    if "--verify" in words:
        assert said in refusal(capsys, series, *words)


def test_no_tokenizer_is_said_with_a_way_out(own, tmp_path, capsys):
    (own / "tokenizer.json").unlink()
    said = refusal(capsys, own, "--out", tmp_path / "out")
    assert "no tokenizer, in the folder of the weights or its parent, and all later steps fail too" in said
    assert "--tokenizer" in said
    write_tokenizer(tmp_path)
    words = (own, *PLAIN, "--tokenizer", tmp_path / "tokenizer.json", "--steps", "60", "--out", tmp_path / "out")
    printed(capsys, *words)


def test_what_is_no_transformer_is_not_asked_for_a_tokenizer(tmp_path, capsys):
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(tmp_path / "net")
    said = refusal(capsys, tmp_path / "net", "--out", tmp_path / "out")
    assert "tokenizer" not in said
    assert "Transformer" in said


def test_a_run_of_our_own_is_run_again_on_what_it_learned(tmp_path, capsys):
    run = tmp_path / "run"
    train(tiny_law_recipe(num_steps=8, snapshot_every=2), tiny_law(), run)
    words = (run, "--measures", "attention_entropy_nats,stable_rank", "--out", tmp_path / "out")
    shown = printed(capsys, *words).out
    assert "attention entropy" in shown
    frame = pandas.read_parquet(tmp_path / "out" / "metrics.parquet")
    assert set(frame["step"][frame["metric"] == "attention_entropy_nats"]) == {0, 2, 4, 6, 8}
    assert "samples of the run's law" in json.loads((tmp_path / "out" / "scan.json").read_text())["text"]
    for option, value in (("--tokenizer", "some/model"), ("--text", "wikitext2"), ("--length", "8")):
        assert f"{option} has no effect on a run" in refusal(capsys, *words, option, value)


def test_no_model_is_said(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "holds no model" in refusal(capsys, tmp_path / "empty", "--out", tmp_path / "out")
    assert "is not a folder" in refusal(capsys, tmp_path / "nothing" / "at" / "all", "--out", tmp_path / "out")


def test_another_scan_in_the_folder_is_not_mixed_in(series, scanned, capsys):
    said = refusal(capsys, series, "--measures", "stable_rank", "--out", scanned)
    assert "holds another scan" in said
    assert "--out" in said


def test_where_nothing_can_be_measured_it_fails(own, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")  # so that no name is broken
    for step in STEPS:
        name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
        set_number(own / f"step{step}", name, float("inf"))
    shown = printed(capsys, own, "--measures", "weights", "--out", tmp_path / "out", status=1)
    assert "none of the 6 steps could be measured" in shown.err
    assert "dense_h_to_4h" in shown.out


@pytest.mark.parametrize(
    ("text", "steps"),
    [("0,4", [0, 4]), ("4:20", [4, 10, 20]), ("0:60:20,4", [0, 4, 20, 40, 60]), ("40, 4", [4, 40])],
)
def test_selections_of_steps(text, steps):
    assert chosen_steps(text, STEPS) == steps


@pytest.mark.parametrize(("text", "steps"), [("4:60:4", [4, 20, 40, 60]), ("0:99999999999:1", list(STEPS))])
def test_a_range_takes_what_is_there_and_says_that_it_named_more(text, steps):
    with pytest.warns(UserWarning, match=f"of which {len(steps)} are there"):
        assert chosen_steps(text, STEPS) == steps


@pytest.mark.parametrize("steps", [[[1]], [None], [True], [4, math.inf], ["4"], [{}]])
def test_steps_that_are_no_numbers_are_refused(steps):
    with pytest.raises(BadInput, match=r"`steps` is .*; expected numbers and ranges"):
        chosen_steps(steps, STEPS)


@pytest.mark.parametrize(
    "text", ["", "a", "1:", "5:9", "9:5:1", "5:9:2", "0:10:0", "-4", "9" * 5000], ids=lambda text: text[:9]
)
def test_selections_that_name_nothing_are_refused(text):
    with pytest.raises(BadInput):
        chosen_steps(text, STEPS)


@pytest.fixture
def hub(series, tmp_path, monkeypatch):
    folder = tmp_path / "served"
    for place in write_series(folder, layout=HUB).values():
        shutil.copy(series / "tokenizer.json", place)
    with local_hub(folder) as running:
        point_to(running.endpoint, tmp_path, monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield running


def test_a_hub_series_that_fails_now_and_then_is_the_local_one(hub, own, tmp_path, capsys):
    shutil.copy(own / "tokenizer.json", own / "step60")  # next to the configuration, as on the hub
    hub.faults += [Fault("step20", times=2), Fault("model.safetensors", sent=500, times=3)]
    words = (*SMALL, "--measures", "attention_entropy_nats,val_loss_nats", "--workers", "1")
    printed(capsys, "someone/tiny", *words, "--out", tmp_path / "far")
    printed(capsys, own, *words, "--out", tmp_path / "near")
    far, near = (pandas.read_parquet(tmp_path / name / "metrics.parquet") for name in ("far", "near"))
    pandas.testing.assert_frame_equal(far.drop(columns="run"), near.drop(columns="run"))
    assert not (tmp_path / "far" / "downloads").exists()


def test_what_is_fetched_is_kept_where_asked(hub, tmp_path, capsys):
    words = ("someone/tiny", "--measures", "stable_rank", "--steps", "0:10", "--keep", "--out", tmp_path / "out")
    printed(capsys, *words)
    kept = sum(path.stat().st_size for path in (tmp_path / "out" / "downloads").rglob("*") if path.is_file())
    assert kept > 0


def test_a_full_disk_is_one_line_and_what_was_measured_stays(series, tmp_path, capsys):
    words = ["scan", str(series), *PLAIN, "--out", str(tmp_path / "out")]
    with full_disk(largest=10_000):  # enough for what is measured, not for the page
        assert main(words) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("joma: the disk is full")
    assert not list((tmp_path / "out").rglob("*.part"))
    kept = (tmp_path / "out" / "scan.jsonl").read_bytes()
    assert main(words) == 0
    assert (tmp_path / "out" / "scan.jsonl").read_bytes() == kept
