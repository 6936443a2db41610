"""The main job from outside: exit statuses, files, resuming, and messages on bad input."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import tiny_recipe, tiny_tokens

import joma
from conclusions import faults
from full_disk import full_disk
from joma.claims.evaluation import prepare
from joma.claims.workspace import Workspace
from joma.cli import main
from joma.train.training import train
from linking import explorer_of

FAST, SECOND = "theorem4", "theorem2"
"""The two claims that take the least time."""


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "joma", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder in which a claim is finished; tests change copies of it (``out``)."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    assert main(["reproduce", FAST, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def out(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "out")


def test_reproduce_writes_everything_and_exits_with_0(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["reproduce", FAST, "--out", str(out)]) == 0
    record = json.loads((out / "claims.json").read_text())
    (claim,) = record["claims"]
    assert claim["id"] == FAST
    assert claim["verdict"] in ("holds", "does not hold", "undecided")
    for part in ("statement", "source", "assumptions", "test", "measured", "criterion", "controls", "seconds"):
        assert claim[part], part
    assert claim["controls"][0]["estimate"]["values"]
    for figure in claim["figures"]:
        assert (out / f"{figure}.svg").stat().st_size > 1000
        assert (out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert FAST in page
    assert "fewer words" not in page  # which is for claims on text
    assert f'"id">{FAST}<' in explorer_of(out / "report.html").read_text()
    assert (out / "metrics.parquet").exists()
    assert "report.html" in capsys.readouterr().out


def test_metrics_are_tidy(finished):
    import pandas as pd

    frame = pd.read_parquet(finished / "metrics.parquet")
    assert list(frame.columns) == ["run", "step", "layer", "head", "projection", "metric", "value"]


def test_json_goes_to_standard_output_and_nothing_else_does(tmp_path, capfd):
    assert main(["reproduce", FAST, "--json", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads((tmp_path / "out" / "claims.json").read_text())


def test_a_finished_claim_is_not_evaluated_again(out, capsys):
    evidence = out / "evidence" / f"{FAST}.json"
    before = evidence.stat().st_mtime_ns
    main(["reproduce", FAST, "--out", str(out)])
    assert evidence.stat().st_mtime_ns == before
    assert "kept from an earlier run" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_removed_is_said_and_keep_cannot_restore_it(tmp_path, capsys):
    out = tmp_path / "out"
    prepare((), Workspace(out))
    train(tiny_recipe(num_steps=4, early_until=0), tiny_tokens(), out / "runs" / "tiny")
    main(["reproduce", FAST, "--out", str(out)])
    said = capsys.readouterr().out
    assert "weights of earlier steps" in said
    assert "were removed: training again gives them to the bit; with --keep they stay." in said
    with pytest.warns(UserWarning, match="name a new folder"):
        assert joma.reproduce(FAST, out=out, keep=True).kept() == ""


def test_damaged_evidence_is_made_again(out, capsys):
    evidence = out / "evidence" / f"{FAST}.json"
    evidence.write_text(evidence.read_text()[:100])
    assert main(["reproduce", FAST, "--out", str(out)]) == 0
    assert json.loads(evidence.read_text())["agreement"]
    assert f"{evidence.name} is damaged" in capsys.readouterr().err


def test_a_damaged_run_does_not_cost_the_report(out, capsys):
    run = out / "runs" / "some-run"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{")
    (out / "report.html").unlink()
    assert main(["reproduce", FAST, "--out", str(out)]) == 0
    assert "left out of the metrics table" in capsys.readouterr().err
    assert (out / "report.html").exists()


def test_the_report_keeps_what_an_earlier_command_found(out):
    main(["reproduce", SECOND, "--out", str(out)])
    record = json.loads((out / "claims.json").read_text())
    assert {claim["id"] for claim in record["claims"]} == {FAST, SECOND}


def test_strict_exits_with_1_unless_all_hold(out):
    status = main(["reproduce", FAST, "--strict", "--out", str(out)])
    verdicts = [claim["verdict"] for claim in json.loads((out / "claims.json").read_text())["claims"]]
    assert status == (0 if verdicts == ["holds"] else 1)


def test_a_claim_that_cannot_be_evaluated_exits_with_1_and_the_others_are_kept(tmp_path, monkeypatch):
    from dataclasses import replace

    from joma.claims import registry

    (tmp_path / "broken_test.py").write_text("def evaluate(workspace):\n    raise ZeroDivisionError('a bug')\n")
    monkeypatch.syspath_prepend(tmp_path)
    real = registry.all_claims()
    broken = replace(real[SECOND], evaluate="broken_test:evaluate")
    monkeypatch.setattr(registry, "all_claims", lambda: real | {SECOND: broken})
    out = tmp_path / "out"
    assert main(["reproduce", SECOND, FAST, "--out", str(out)]) == 1
    record = {claim["id"]: claim for claim in json.loads((out / "claims.json").read_text())["claims"]}
    assert record[SECOND]["verdict"] is None
    assert "ZeroDivisionError: a bug" in record[SECOND]["error"]
    assert record[FAST]["verdict"]
    assert "ZeroDivisionError" in (out / "evidence" / f"{SECOND}.error.txt").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reproduce", "theorem1.expo"], "did you mean 'theorem1.exp'"),
        (["reproduce", "nonsense", "--list"], "there is no claim 'nonsense'"),
        (["reproduce", "theorem1", "--all"], "leave out --all"),
        (["reproduce", "--text", "no/such/file.txt"], "no/such/file.txt"),
        (["reproduce", "text", "--text", __file__, "--vocabulary-size", "1"], "vocabulary"),
        (["reproduce", "theorem4", "--data", "ratings"], "--data ratings="),
        (["reproduce", "theorem4", "--data", "rating=README.md"], "did you mean 'ratings'"),
        (["reproduce", "theorem4", "--data", "ratings=no/such/file.csv"], "no/such/file.csv"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(words, message, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert "expected" in line


@pytest.mark.parametrize("words", [["reproduce", "--prof", "quick"], ["reproduce", "--seeds", "0"], ["reprodce"]])
def test_wrong_usage_exits_with_2(words):
    assert command(*words).returncode == 2


def test_data_of_the_user_are_settings_of_the_folder(tmp_path, capsys):
    table, out = tmp_path / "ratings.csv", tmp_path / "out"
    table.write_text("user,item\n")
    words = ["reproduce", FAST, "--out", str(out)]
    assert main([*words, "--data", f"ratings={table}"]) == 0
    assert f"--data ratings={table}" in (out / "report.html").read_text()
    assert main(words) == 2
    assert "evidence made with data" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["reproduce", FAST, "--out", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert "contains other files" in capsys.readouterr().err


def test_a_folder_made_with_other_settings_is_refused(out, capsys):
    assert main(["reproduce", FAST, "--out", str(out), "--seeds", "2"]) == 2
    assert "seeds" in capsys.readouterr().err


def test_list_needs_no_output_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "--list", "--json"]) == 0
    listed = {claim["id"]: claim for claim in json.loads(capsys.readouterr().out)}
    assert listed["text.mechanism"]["by_default"]
    assert not listed["image.parts"]["by_default"]
    assert listed["image.parts"]["extra"] == "images"
    assert not list(tmp_path.iterdir())


def test_list_says_which_claims_are_not_evaluated_by_default_and_which_extra_they_need(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["reproduce", "--list", "image.parts", "theorem4"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("evaluated if it is named, or with --all") == 1
    assert listed.count("data from the extra joma[images], or your own with --data") == 1


def test_list_imports_nothing_that_computes():
    heavy = ("torch", "scipy", "numpy", "pandas", "transformers", "matplotlib", "plotly")
    code = (
        "import sys; from joma.cli import main; main(['reproduce', '--list']); "
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "text.mechanism" in done.stdout


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path):
    words = [sys.executable, "-m", "joma", "reproduce", FAST, "text.sparse_then_dense", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    evidence = tmp_path / "out" / "evidence" / f"{FAST}.json"
    runs = tmp_path / "out" / "runs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (evidence.exists() and list(runs.glob("*/metrics.jsonl"))):
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command uses what it can of it" in errors
    record = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert [claim["id"] for claim in record["claims"]] == [FAST]
    again = command("reproduce", FAST, "--out", str(tmp_path / "out"))
    assert again.returncode == 0
    assert "kept from an earlier run" in again.stderr


@pytest.mark.slow
def test_progress_off_a_terminal_is_plain_lines(tmp_path):
    done = command("reproduce", FAST, "--out", str(tmp_path / "out"))
    assert re.search(rf"^{re.escape(FAST)}: ", done.stderr, re.MULTILINE)
    assert "\x1b" not in done.stderr


def test_paths_with_spaces_and_a_relative_out_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", FAST, "--out", "my results/run 1"]) == 0
    record = json.loads(Path("my results/run 1/claims.json").read_text())
    assert "--out 'my results/run 1'" in record["claims"][0]["command"]


def test_a_text_too_short_is_refused_before_anything_starts(tmp_path, capsys):
    (tmp_path / "short.txt").write_text("to be or not to be that is the question " * 100)
    assert main(["reproduce", "--text", str(tmp_path / "short.txt"), "--out", str(tmp_path / "out")]) == 2
    assert "give a longer text" in capsys.readouterr().err
    assert not (tmp_path / "out" / "evidence").exists()


def test_a_damaged_text_file_is_made_again(tmp_path):
    from joma.claims.workspace import TextChoice, Workspace

    (tmp_path / "long.txt").write_text("to be or not to be that is the question " * 4000)
    workspace = Workspace(tmp_path / "out", text=TextChoice(str(tmp_path / "long.txt"), 6))
    before = workspace.tokens()
    path = tmp_path / "out" / "text" / "text.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="read again"):
        after = workspace.tokens()
    assert after.digest == before.digest
    assert workspace.tokens().digest == before.digest


def test_a_full_disk_is_one_line_and_what_was_finished_stays(tmp_path, capsys):
    words = ["reproduce", FAST, "--out", str(tmp_path / "out")]
    with full_disk():
        assert main(words) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("joma: the disk is full")
    assert not list((tmp_path / "out").rglob("*.part"))
    assert main(words) == 0
    assert json.loads((tmp_path / "out" / "claims.json").read_text())["claims"][0]["verdict"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_random_and_continued_it_ends_with_the_same_numbers(tmp_path):
    options = ["reproduce", "text.rank_drop", "--seeds", "1", "--vocabulary-size", "100"]
    assert command(*options, "--out", str(tmp_path / "undisturbed")).returncode == 0
    words = [sys.executable, "-m", "joma", *options, "--out", str(tmp_path / "killed")]
    generator = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(generator.uniform(5, 20))
        process.kill()
        process.wait()
    assert command(*options, "--out", str(tmp_path / "killed")).returncode == 0
    undisturbed, killed = (
        json.loads((tmp_path / name / "evidence" / "text.rank_drop.json").read_text())["agreement"]
        for name in ("undisturbed", "killed")
    )
    assert killed == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quick_evaluates_every_claim_within_five_minutes(tmp_path):
    from joma.claims.registry import all_claims

    start = time.monotonic()
    done = command("reproduce", "--out", str(tmp_path / "out"))
    seconds = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert {claim["id"] for claim in record["claims"]} == {id for id, one in all_claims().items() if one.by_default}
    assert all(claim["verdict"] for claim in record["claims"])
    assert not [fault for claim in record["claims"] for fault in faults(claim["conclusion"])]
    if os.cpu_count() == 2:
        assert seconds < 300
