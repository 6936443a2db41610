"""The published series, from a hub on the loopback interface: available, missing, or shut down half way."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from faulty_series import HUB, STEPS, copy_weights, cut_off, write_series
from hub_client import point_to
from hub_server import local_hub

from joma.claims.series.subject import measured
from joma.claims.series.subjects import subjects
from joma.claims.workspace import Profile, Workspace
from joma.cli import main
from joma.errors import RunFailed, Unreachable
from joma.progress import silent
from joma.saved.series import open_series
from joma.train.series import SeriesRecipe, step_folder, train_series
from joma.train.text.reading import read_text
from joma.train.text.tokenizers import learned_tokenizer
from joma.train.text.vocabulary import tokenize

IDS = ("series.sparse_then_dense", "series.rank_drop_and_rebound")
NOWHERE = "http://127.0.0.1:9"
TINY = SeriesRecipe(num_steps=112, save_every=8, learning_rate=1e-2, num_layers=1, width=32, length=32)
PYTHIA, OPT = ("pythia-70m", "pythia-70m-seed1", "pythia-70m-seed2"), "opt-125m"
DAMAGED = 40

REPRODUCE = """
import sys
from joma.claims.series import published as series_published
from joma.cli import main
series_published.PUBLISHED_STEPS = {steps}
series_published.PUBLISHED_LENGTH, series_published.PUBLISHED_PROBES = {length}, {probes}
sys.exit(main(sys.argv[1:]))
"""
"""Run the command with the sizes of the served series."""


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """A short text."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(read_text().train[:400_000], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def published(text, tmp_path_factory) -> Path:
    """A folder to serve: three training runs under Pythia's names, two of them with a faulty step, and OPT's end."""
    folder, served = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("published")
    read = read_text(str(text))
    tokenizer = learned_tokenizer(read.train, 300)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    tokens = tokenize(read, None, str(folder / "tokenizer.json"), keep_ids=True)
    for seed, name in enumerate(PYTHIA):
        train_series(replace(TINY, seed=seed), tokens, tokenizer, folder / name)
        _publish(folder / name, served / "models" / "EleutherAI" / name)
    train_series(replace(TINY, family="opt", num_steps=1), tokens, tokenizer, folder / OPT)
    shutil.copytree(step_folder(folder / OPT, 1), served / "models" / "facebook" / OPT)
    models = served / "models" / "EleutherAI"
    cut_off(models / f"{PYTHIA[1]}@step{DAMAGED}" / "model.safetensors")
    copy_weights(models / f"{PYTHIA[2]}@step{TINY.num_steps}", models / f"{PYTHIA[2]}@step0")
    return served


def _publish(series: Path, repository: Path) -> None:
    """Make a branch for each step, and the last one the main branch."""
    for step in TINY.saved_steps():
        shutil.copytree(step_folder(series, step), repository.with_name(f"{repository.name}@step{step}"))
    shutil.copytree(step_folder(series, TINY.num_steps), repository)


def words(out: Path, text: Path, *more: str) -> list[str]:
    return ["reproduce", "--profile", "full", "--json", "--out", str(out), "--text", str(text), *more]


def reproduce(endpoint: str, words: list[str], home: Path, probes: int = 8) -> subprocess.CompletedProcess[str]:
    """Run the command in a new process, because clients read the address of their hub when they are imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "JOMA_"))}
    environment = kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    code = REPRODUCE.format(steps=TINY.saved_steps(), length=TINY.length, probes=probes)
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False
    )


def claims(printed: str) -> list[dict]:
    return json.loads(printed)["claims"]


@pytest.mark.slow
def test_without_a_network_full_is_skipped_and_with_one_evaluated(published, text, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    point_to(NOWHERE, tmp_path, monkeypatch)
    assert main(words(out, text, "series")) == 0
    printed = capsys.readouterr()
    for claim in claims(printed.out):
        assert claim["verdict"] is claim["error"] is None
        assert "EleutherAI/pythia-70m could not be fetched: the hub did not answer 4 times" in claim["skipped"]
        assert "check the network" in claim["skipped"]
    assert f"{IDS[0]}: skipped: EleutherAI" in " ".join(printed.err.split())
    assert " skipped" in (out / "report.html").read_text(encoding="utf-8")
    assert not (out / "evidence").exists()
    assert main(words(out, text, IDS[0], "--strict")) == 1

    with local_hub(published) as hub:
        done = reproduce(hub.endpoint, words(out, text, "series"), tmp_path / "home")
    assert done.returncode == 0, done.stderr
    found = claims(done.stdout)
    assert [claim["id"] for claim in found] == list(IDS)
    for claim in found:
        assert claim["verdict"] in ("holds", "does not hold", "undecided"), claim
        assert claim["error"] is claim["skipped"] is None
        assert claim["measured"]["num"] == len(PYTHIA)
        notes = " ".join(claim["notes"])
        assert "OPT 125m is left out: facebook/opt-125m has one step" in notes
        assert "Pythia 70m alone" in notes
        assert notes.count(" is left out: ") == 1 + 2, notes
        assert f"EleutherAI/{PYTHIA[1]}, step {DAMAGED}, is left out: " in notes
        assert f"EleutherAI/{PYTHIA[2]}, step 0, is left out: " in notes
        assert f"{len(TINY.saved_steps()) - 2} saved steps" in notes
        assert all(f"EleutherAI/{name}" in notes for name in PYTHIA)
        assert all(finding["name"].startswith("Pythia 70m") for finding in claim["findings"])


@pytest.mark.slow
def test_one_training_run_has_no_interval_for_the_rank_and_a_note_says_so(published, text, tmp_path):
    with local_hub(published) as hub:
        done = reproduce(hub.endpoint, words(tmp_path / "out", text, IDS[1], "--seeds", "1"), tmp_path / "home")
    assert done.returncode == 0, done.stderr
    (rank,) = claims(done.stdout)
    assert rank["measured"]["num"] == 1
    assert "the rank has no repetitions" in " ".join(rank["notes"])


@pytest.mark.slow
def test_a_text_too_short_for_the_probes_is_an_error(published, text, tmp_path):
    with local_hub(published) as hub:
        done = reproduce(hub.endpoint, words(tmp_path / "out", text, IDS[0]), tmp_path / "home", probes=10**4)
    assert done.returncode == 1, done.stderr
    (claim,) = claims(done.stdout)
    assert "give a longer text" in claim["error"]


@pytest.mark.parametrize("absent", ["EleutherAI/pythia-70m", "facebook/opt-125m"])
def test_a_missing_repository_is_an_error(absent, text, tmp_path, monkeypatch, capsys):
    for owner, name in (("EleutherAI", PYTHIA[0]), ("facebook", OPT)):
        if f"{owner}/{name}" != absent:
            write_series(tmp_path / "served", f"models/{owner}/{name}@step{{step}}")
            (tmp_path / "served" / "models" / owner / name).mkdir()
    (tmp_path / "served").mkdir(exist_ok=True)
    with local_hub(tmp_path / "served") as hub:
        point_to(hub.endpoint, tmp_path, monkeypatch)
        assert main(words(tmp_path / "out", text, IDS[0], "--seeds", "1")) == 1
    (claim,) = claims(capsys.readouterr().out)
    assert claim["verdict"] is claim["skipped"] is None
    assert claim["error"].startswith(f"{absent} is neither a folder here nor a repository on the hub")


def test_series_of_one_step_only_fail_the_run_and_are_not_unreachable(tmp_path, monkeypatch):
    for owner, name in (("EleutherAI", PYTHIA[0]), ("facebook", OPT)):
        (tmp_path / "served" / "models" / owner / name).mkdir(parents=True)
    with local_hub(tmp_path / "served") as hub:
        point_to(hub.endpoint, tmp_path, monkeypatch)
        with pytest.raises(RunFailed, match=r"Pythia 70m is left out: .* has one step.* OPT 125m .* quick") as caught:
            subjects(Workspace(tmp_path / "out", Profile.FULL, num_seeds=1))
    assert not isinstance(caught.value, Unreachable)


def test_a_hub_that_shuts_down_half_way_is_unreachable_and_no_step_is_marked_as_failed(tmp_path, monkeypatch):
    write_series(tmp_path / "served", HUB)
    probe, reported = torch.arange(32).view(2, 16), []
    with local_hub(tmp_path / "served") as hub:
        point_to(hub.endpoint, tmp_path, monkeypatch)

        def go_after_two(_: str, done: float, total: float) -> None:
            reported.append(done)
            if done == 2:
                hub.shutdown()
                hub.server_close()
                hub.hang_up()

        with pytest.raises(Unreachable):
            measured(open_series("someone/tiny"), probe, tmp_path / "kept", go_after_two)
    assert reported == [0, 1, 2]
    with local_hub(tmp_path / "served") as hub:
        point_to(hub.endpoint, tmp_path, monkeypatch)
        before = (tmp_path / "kept" / "scan.jsonl").read_bytes()
        results = measured(open_series("someone/tiny"), probe, tmp_path / "kept", silent)
    assert (tmp_path / "kept" / "scan.jsonl").read_bytes().startswith(before)
    assert before.count(b"\n") == 1 + 2
    assert all(result.ok for result in results)
    assert len(results) == len(STEPS)


def test_a_damaged_step_has_a_result_if_the_hub_answers(tmp_path, monkeypatch):
    places = write_series(tmp_path / "served", HUB)
    cut_off(places[STEPS[1]] / "model.safetensors")
    with local_hub(tmp_path / "served") as hub:
        point_to(hub.endpoint, tmp_path, monkeypatch)
        results = measured(open_series("someone/tiny"), torch.arange(32).view(2, 16), tmp_path, silent)
    assert [result.step for result in results if not result.ok] == [STEPS[1]]
