"""``joma sweep``: what it prints, its exit status, and its refusals in one line."""

import errno
import json
import os

import pytest

from joma.cli import main

TINY = ("words=8", "width=8", "hidden=8", "num_probe_sequences=8", "length=10", "batch_size=4", "steps=20", "layers=1")


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with a text; return the exit status and what it prints."""
    (tmp_path / "text.txt").write_text("\n\n".join("to be or not to be that is the question" for _ in range(400)))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, recipe: str = "figure8"):
        options = [word for value in TINY for word in ("--over", value)]
        status = main(["sweep", recipe, "--text", "text.txt", "--workers", "1", "--seeds", "1", *options, *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_it_prints_a_row_for_each_point_what_is_reduced_and_where_the_page_is(sweep, tmp_path):
    status, out, _ = sweep("--over", "lr=1e-2,2e-2")
    assert status == 0
    assert "2 of 2 runs finished" in out
    assert "Different from the paper, whose values are in brackets: text text.txt (wikitext2), words 8 (28,782)" in out
    folder = tmp_path / "joma-sweep" / "figure8-quick"
    assert (folder / "sweep.html").as_uri() in out


def test_with_json_it_prints_the_record_and_nothing_else(sweep, tmp_path):
    status, out, _ = sweep("--over", "lr=1e-2", "--json", "--out", "mine")
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "mine" / "sweep.json").read_text())


def test_a_failed_run_makes_the_exit_status_1_and_is_named(sweep):
    status, out, err = sweep("--over", "lr=1e-2,1e30")
    assert status == 1
    assert "1 of 2 runs finished; 1 failed" in out
    assert "lr-1e+30_layers-1_seed-0_words-8" in err
    assert " failed: the loss or its gradient is NaN or infinite at step " in err


def test_a_full_disk_makes_the_exit_status_1_and_is_said_in_one_line(sweep, monkeypatch):
    def refuse(path, line):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))

    monkeypatch.setattr("joma.train.training.append_line", refuse)
    status, out, err = sweep("--over", "lr=1e-2,2e-2")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("joma: the disk is full: a file cannot be written at step 0 (")
    assert "keeps 0 of 2 runs finished" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--over", "learning_rat=1"], "--over is 'learning_rat'; expected one of "),
        (
            ["--over", "lr=1e-5:1e-2:2000log"],
            "these are 2,000 runs; expected at most 1,000 without",
        ),
        (["--over", "lr="], "--over sets learning_rate to no value"),
        (["--over", "lr=1e-6:1e-2:log"], "without a number of values; expected KEY=VALUES"),
        (["--over", "lr=1,1"], "--over sets learning_rate to the same value twice"),
        (["--over", "seed=1"], "--seeds is 1; expected left out if --over names seeds"),
        (["--over", "no.csv"], "--over is the file 'no.csv' and something else; expected one file, or only KEY=VALUES"),
        (["--seeds", "0"], "--seeds is '0'; expected a whole number of at least 1"),
        (["--engine", "rai"], "--engine is 'rai'; expected one of processes, ray"),
        (
            ["--engine", "ray", "--device", "auto"],
            "--engine is ray and --device is auto; expected --device cpu with Ray",
        ),
        (["--profile", "paper2"], "--profile is 'paper2'"),
    ],
)
def test_a_wrong_use_is_refused_in_one_line(sweep, tmp_path, words, said):
    status, out, err = sweep(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.startswith("joma: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "joma-sweep").exists()


def test_an_unknown_recipe_is_refused_with_the_nearest(sweep):
    said = sweep(recipe="figur7")[2]
    assert said.startswith("joma: RECIPE is 'figur7'")
    assert "did you mean 'figure7'" in said


def test_an_out_that_is_a_file_is_refused(sweep, tmp_path):
    assert "--out text.txt is a file" in sweep("--out", "text.txt")[2]
