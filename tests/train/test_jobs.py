import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tiny import tiny_law, tiny_law_recipe, tiny_recipe, tiny_tokens

from joma.errors import BadInput, RunFailed
from joma.train.checkpoints import checkpoint_paths
from joma.train.hierarchies import save_law
from joma.train.jobs import train_all
from joma.train.run import Run
from joma.train.text.vocabulary import save_tokens, shuffled

RECIPE = tiny_recipe(num_steps=60)
ENDLESS = tiny_recipe(num_steps=1_000_000, probe_every=1000)


@pytest.fixture
def tokens_path(tmp_path) -> Path:
    save_tokens(shuffled(tiny_tokens(), 0), tmp_path / "tokens.safetensors")
    return tmp_path / "tokens.safetensors"


def jobs_in(folder: Path, tokens_path: Path, *recipes):
    return [(recipe, tokens_path, folder / f"run {number}") for number, recipe in enumerate(recipes)]


def numbers_of(run: Run) -> tuple[bytes, bytes]:
    return run.journal_path.read_bytes(), checkpoint_paths(run.checkpoint_folder)[0].read_bytes()


def test_parallel_and_sequential_training_give_the_same_numbers(tmp_path, tokens_path):
    recipes = [RECIPE, replace(RECIPE, seed=1), replace(RECIPE, seed=2)]
    calls = []
    together = train_all(
        jobs_in(tmp_path / "together", tokens_path, *recipes),
        num_workers=2,
        progress=lambda *call: calls.append(call),
    )
    apart = train_all(jobs_in(tmp_path / "apart", tokens_path, *recipes), num_workers=1)
    assert [run.recipe for run in together] == recipes
    assert [numbers_of(run) for run in together] == [numbers_of(run) for run in apart]
    assert len({numbers_of(run) for run in together}) == 3
    assert calls[-1] == ("training 3 networks", 3, 3)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


@pytest.mark.slow
def test_laws_and_texts_are_learned_in_parallel(tmp_path, tokens_path):
    law_path = tmp_path / "law.json"
    save_law(tiny_law(), law_path)

    def jobs(name: str):
        jobs = jobs_in(tmp_path / name, law_path, tiny_law_recipe(), tiny_law_recipe(seed=1))
        return [*jobs, (RECIPE, tokens_path, tmp_path / name / "text")]

    together, apart = train_all(jobs("together"), num_workers=2), train_all(jobs("apart"), num_workers=1)
    assert [numbers_of(run) for run in together] == [numbers_of(run) for run in apart]
    assert [run.law() for run in together[:2]] == [tiny_law()] * 2
    assert numbers_of(together[0]) != numbers_of(together[1])


@pytest.mark.parametrize("content", [None, "{", '{"kind": "forest"}'])
def test_unreadable_law_is_refused(tmp_path, content):
    path = tmp_path / "law.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=r"law"):
        train_all([(tiny_law_recipe(), path, tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_progress_of_jobs_in_one_process_adds_up(tmp_path, tokens_path):
    calls = []
    jobs = jobs_in(tmp_path, tokens_path, RECIPE, replace(RECIPE, seed=1))
    train_all(jobs, num_workers=1, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("training 2 networks", 2, 2)
    assert ("training 2 networks", 1, 2) in calls


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_failed_job_does_not_stop_the_others(tmp_path, tokens_path, num_workers):
    broken = replace(RECIPE, learning_rate=1e30, decoder=replace(RECIPE.decoder, layer_norm=False))
    misfit = replace(RECIPE, decoder=replace(RECIPE.decoder, vocabulary_size=7))
    jobs = jobs_in(tmp_path, tokens_path, broken, misfit, RECIPE)
    with pytest.raises(RunFailed, match="NaN or infinite") as caught:
        train_all(jobs, num_workers=num_workers)
    assert "20 different tokens" in caught.value.__notes__[0]
    assert Run(jobs[2][2], RECIPE).journal().last_step == RECIPE.num_steps


class Stop(Exception):
    """Raised by the progress callback of a test."""


@pytest.mark.slow
def test_runs_stopped_by_progress_leave_checkpoints_and_are_resumed(tmp_path, tokens_path):
    recipe = tiny_recipe(num_steps=500, checkpoint_every=500)
    jobs = jobs_in(tmp_path, tokens_path, recipe, replace(recipe, seed=1))

    def stop(what: str, done: float, total: float) -> None:
        if all((folder / "metrics.jsonl").exists() for _, _, folder in jobs):
            raise Stop

    with pytest.raises(Stop):
        train_all(jobs, num_workers=2, progress=stop)
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    stopped_at = [checkpoint_paths(folder / "checkpoints")[0] for _, _, folder in jobs]
    assert all(path.name < "step_000500" for path in stopped_at)
    runs = train_all(jobs, num_workers=1)
    whole = train_all(jobs_in(tmp_path / "whole", tokens_path, recipe), num_workers=1)
    assert numbers_of(runs[0]) == numbers_of(whole[0])


def go(folder: Path, tokens_path: Path) -> None:
    train_all(jobs_in(folder, tokens_path, ENDLESS, replace(ENDLESS, seed=1)), num_workers=2)


def test_workers_end_if_their_parent_is_killed(tmp_path, tokens_path):
    parent = multiprocessing.get_context("spawn").Process(target=go, args=(tmp_path, tokens_path))
    parent.start()
    folders = [tmp_path / "run 0", tmp_path / "run 1"]
    while parent.is_alive() and not all((folder / "metrics.jsonl").exists() for folder in folders):
        time.sleep(0.01)
    workers = psutil.Process(parent.pid).children()
    assert len(workers) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_two_jobs_with_the_same_folder_are_refused(tmp_path, tokens_path):
    with pytest.raises(BadInput, match="two jobs name the folder"):
        train_all([(RECIPE, tokens_path, tmp_path / "a"), (RECIPE, tokens_path, tmp_path / "b" / ".." / "a")])


def test_no_jobs_give_no_runs():
    assert train_all([]) == []
