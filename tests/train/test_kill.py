"""Runs in separate processes that are killed, interrupted, or cannot write their files."""

import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import tiny_law, tiny_law_recipe, tiny_recipe, tiny_tokens

from joma.errors import RunFailed
from joma.train.checkpoints import checkpoint_paths
from joma.train.run import Run
from joma.train.training import train

RECIPE = tiny_recipe(num_steps=200, probe_every=5, checkpoint_every=10)
LAW_RECIPE = tiny_law_recipe(num_steps=120, probe_every=5, checkpoint_every=10, snapshot_every=7)

# A server that has imported torch once and forks before any thread is started: a process costs milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["joma.train.training"])


def go(folder: Path) -> None:
    train(RECIPE, tiny_tokens(), folder)


def go_with_law(folder: Path) -> None:
    train(LAW_RECIPE, tiny_law(), folder)


def go_with_small_files(folder: Path, largest: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        train(RECIPE, tiny_tokens(), folder)
    except RunFailed as error:
        print_to(folder.parent / "error", str(error))


def print_to(path: Path, text: str) -> None:
    path.write_text(text[:900])


def numbers_of(folder: Path) -> tuple[bytes, bytes]:
    run = Run(folder, RECIPE)  # (where its files are does not depend on the recipe)
    return run.journal_path.read_bytes(), checkpoint_paths(run.checkpoint_folder)[0].read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    go(folder)
    return numbers_of(folder)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_run_killed_at_random_points_ends_with_the_same_numbers(undisturbed, tmp_path, seed):
    folder = tmp_path / "run"
    kill_at_random(go, folder, len(undisturbed[0]), seed)
    assert numbers_of(folder) == undisturbed


def test_run_on_a_law_killed_at_random_points_ends_with_the_same_numbers_and_snapshots(tmp_path):
    go_with_law(tmp_path / "undisturbed")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed" / "snapshots").iterdir()}
    assert len(expected) == len(range(0, 120, 7)) + 1
    folder = tmp_path / "run"
    kill_at_random(go_with_law, folder, len(numbers_of(tmp_path / "undisturbed")[0]), seed=0)
    assert numbers_of(folder) == numbers_of(tmp_path / "undisturbed")
    assert {path.name: path.read_bytes() for path in (folder / "snapshots").iterdir()} == expected


def kill_at_random(target: Callable[[Path], None], folder: Path, journal_size: int, seed: int) -> None:
    """Start and kill a run repeatedly until it finishes."""
    dice, num_killed = random.Random(seed), 0
    journal = folder / "metrics.jsonl"
    while True:
        process = processes.Process(target=target, args=(folder,))
        process.start()
        seen = journal.stat().st_size if journal.exists() else 0
        goal = seen + dice.randrange(journal_size // 4)
        while process.is_alive() and (not journal.exists() or journal.stat().st_size <= goal):
            time.sleep(0.0005)
        time.sleep(dice.random() * 0.01)
        if not process.is_alive():
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        num_killed += process.exitcode == -signal.SIGKILL
    process.join()
    assert process.exitcode == 0
    assert num_killed >= 2


def test_interrupt_signal_leaves_a_checkpoint(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = processes.Process(target=go, args=(folder,))
    process.start()
    while process.is_alive() and Run(folder, RECIPE).journal().last_step < 50:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 1  # KeyboardInterrupt, not a signal's death
    assert checkpoint_paths(folder / "checkpoints")
    go(folder)
    assert numbers_of(folder) == undisturbed


@pytest.mark.parametrize(("largest", "kept"), [(30_000, "no checkpoint yet"), (1_500, "no measurement yet")])
def test_failed_write_keeps_earlier_measurements_and_can_be_resumed(undisturbed, tmp_path, largest, kept):
    folder = tmp_path / "run"
    process = processes.Process(target=go_with_small_files, args=(folder, largest))
    process.start()
    process.join()
    message = (tmp_path / "error").read_text()
    assert "a file cannot be written at step" in message
    assert "File too large" in message
    assert kept in message
    assert undisturbed[0].startswith((folder / "metrics.jsonl").read_bytes()[: Run(folder, RECIPE).journal().num_bytes])
    assert not list(folder.rglob("*.part"))
    go(folder)
    assert numbers_of(folder) == undisturbed
