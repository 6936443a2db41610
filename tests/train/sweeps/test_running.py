"""The runs of a sweep end one by one, with their times, and show their last measurement while they train."""

import errno
from dataclasses import replace

import pytest
import torch
from tiny import tiny_recipe, tiny_tokens

from joma.errors import BadInput, DiskFull
from joma.train.checkpoints import checkpoint_paths
from joma.train.run import Run
from joma.train.stacking import _Stack, train_stack
from joma.train.sweeps.running import standing_of, train_runs, train_stacks
from joma.train.text.vocabulary import save_tokens, shuffled

RECIPE = tiny_recipe(num_steps=40)


@pytest.fixture
def tokens_path(tmp_path):
    save_tokens(shuffled(tiny_tokens(), 0), tmp_path / "tokens.safetensors")
    return tmp_path / "tokens.safetensors"


def jobs(tmp_path, tokens_path, *recipes):
    return [(recipe, tokens_path, tmp_path / recipe.name) for recipe in recipes]


def test_a_run_that_fails_stops_no_other_and_says_why(tmp_path, tokens_path):
    wanted = jobs(tmp_path, tokens_path, replace(RECIPE, name="broken", learning_rate=1e30), RECIPE)
    broken, whole = train_runs(wanted, num_workers=1)
    assert (broken.run, broken.status, broken.seconds) == ("broken", "failed", None)
    assert "NaN or infinite at step" in broken.reason
    assert (whole.status, whole.from_step) == ("finished", 0)
    assert whole.seconds > 0


def test_a_network_too_large_for_the_memory_fails_alone(tmp_path, tokens_path):
    large = replace(RECIPE, name="large", decoder=replace(RECIPE.decoder, hidden=2**50))
    broken, whole = train_runs(jobs(tmp_path, tokens_path, large, RECIPE), num_workers=1)
    assert (broken.status, whole.status) == ("failed", "finished")
    assert "training stopped (" in broken.reason


def test_a_finished_run_is_not_trained_again_and_an_interrupted_one_goes_on(tmp_path, tokens_path):
    def stop(what: str, done: float, total: float) -> None:
        if done >= 0.8:
            raise KeyboardInterrupt

    wanted = jobs(tmp_path, tokens_path, RECIPE)
    with pytest.raises(KeyboardInterrupt):
        list(train_runs(wanted, num_workers=1, progress=stop))
    (continued,) = train_runs(wanted, num_workers=1)
    (again,) = train_runs(wanted, num_workers=1)
    assert continued.from_step == 32
    assert (again.status, again.seconds) == ("finished", None)


@pytest.mark.parametrize(("keep", "num"), [(True, 2), (False, 1)])
def test_checkpoints_of_finished_runs_are_removed_unless_they_are_kept(tmp_path, tokens_path, keep, num):
    list(train_runs(jobs(tmp_path, tokens_path, RECIPE), num_workers=1, keep=keep))
    assert len(checkpoint_paths(Run(tmp_path / RECIPE.name, RECIPE).checkpoint_folder)) == num


def test_the_standing_of_a_run_is_its_last_whole_measurement(tmp_path, tokens_path):
    run = Run(tmp_path / RECIPE.name, RECIPE)
    assert standing_of(run) is None
    list(train_runs(jobs(tmp_path, tokens_path, RECIPE), num_workers=1))
    last = standing_of(run)
    rows = [row for row in run.measurements() if row.step == 40 and row.group is None]
    assert last.step == 40
    assert last.loss == next(row.value for row in rows if row.metric == "val_loss_nats")
    entropies = [row.value for row in rows if row.metric == "attention_entropy_nats"]
    assert last.entropy == pytest.approx(sum(entropies) / len(entropies))
    content = run.journal_path.read_bytes()
    run.journal_path.write_bytes(content[:-5])  # as if it was being written
    assert standing_of(run).step < 40
    run.journal_path.write_bytes(b"")
    assert standing_of(run) is None


def test_an_engine_without_workers_is_refused(tmp_path, tokens_path):
    with pytest.raises(BadInput, match="number of workers is 0"):
        list(train_runs(jobs(tmp_path, tokens_path, RECIPE), num_workers=0))


def test_runs_of_one_shape_are_trained_as_one_stack_and_one_that_fails_stops_no_other(tmp_path, tokens_path):
    wanted = [replace(RECIPE, name=f"rate-{rate:g}", learning_rate=rate) for rate in (1e-3, 1e30, 1e-2)]
    wanted.append(replace(RECIPE, name="short", num_steps=20))
    seen = []
    report = lambda what, done, total: seen.append((what, done, total))  # noqa: E731
    found = {one.run: one for one in train_stacks(jobs(tmp_path, tokens_path, *wanted), progress=report)}
    assert {name: one.status for name, one in found.items()} == {
        "rate-0.001": "finished", "rate-1e+30": "failed", "rate-0.01": "finished", "short": "finished"
    }  # fmt: skip
    assert found["rate-0.01"].from_step == 0
    assert seen[0][0] == "training 4 networks in 2 stacks"
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1:] == (4, 4)
    again = list(train_stacks(jobs(tmp_path, tokens_path, *wanted)))
    assert [one.seconds for one in again if one.status == "finished"] == [None] * 3


def test_a_full_disk_stops_stacks(tmp_path, tokens_path, monkeypatch):
    def refuse(path, line):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("joma.train.training.append_line", refuse)
    with pytest.raises(DiskFull, match="No space left on device"):
        list(train_stacks(jobs(tmp_path, tokens_path, RECIPE, replace(RECIPE, name="short", num_steps=20))))
    assert not (tmp_path / "short").exists()


# --- stacks that need more memory than there is


@pytest.fixture
def memory(monkeypatch):
    """Return a function that sets the largest stack for which there is memory, and from which step; note all sizes."""

    advance = _Stack.advance

    def limit(most: int, from_step: int = 0) -> list[int]:
        tried = []

        def noted(recipes, *rest, **named):
            tried.append(len(recipes))
            return train_stack(recipes, *rest, batched=True, **named)

        def limited(stack):
            if len(stack.loops) > most and stack.loops[0].step >= from_step:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            advance(stack)

        monkeypatch.setattr("joma.train.sweeps.running.train_stack", noted)
        monkeypatch.setattr(_Stack, "advance", limited)
        return tried

    return limit


def numbered(num):
    return [replace(RECIPE, name=f"seed-{seed}", seed=seed) for seed in range(num)]


def probes(tmp_path, *recipes):
    return {recipe.name: Run(tmp_path / recipe.name, recipe).journal().probes for recipe in recipes}


@pytest.mark.parametrize("from_step", [0, 20])
def test_a_stack_without_enough_memory_is_halved_and_every_run_is_finished_once(
    tmp_path, tokens_path, memory, from_step
):
    wanted, tried = numbered(5), memory(2, from_step)
    found = list(train_stacks(jobs(tmp_path, tokens_path, *wanted)))
    assert tried == [5, 3, 2, 2, 1]  # the size that is enough is kept for the others
    assert [one.run for one in found] == [recipe.name for recipe in wanted]
    assert {(one.status, one.from_step) for one in found} == {("finished", 0)}
    assert all(one.seconds > 0 for one in found)
    for recipe in wanted:
        steps = [step for step, _ in probes(tmp_path, recipe)[recipe.name]]
        assert steps == list(recipe.probe_steps())


def test_runs_that_are_finished_stay_so_when_a_larger_stack_is_halved(tmp_path, tokens_path, memory):
    wanted = numbered(4)
    list(train_stacks(jobs(tmp_path, tokens_path, *wanted[:2])))
    before = probes(tmp_path, *wanted[:2])
    memory(1)
    found = list(train_stacks(jobs(tmp_path, tokens_path, *wanted)))
    assert [one.status for one in found] == ["finished"] * 4
    assert [one.seconds is None for one in found] == [True, True, False, False]
    assert probes(tmp_path, *wanted[:2]) == before


def test_a_network_too_large_for_the_accelerator_fails_and_stacks_of_others_go_on(tmp_path, tokens_path, memory):
    large = [replace(RECIPE, name=f"large-{seed}", seed=seed, num_steps=30) for seed in range(2)]
    memory(0)
    found = list(train_stacks(jobs(tmp_path, tokens_path, *large)))
    assert [one.status for one in found] == ["failed"] * 2
    assert "training stopped (OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB)" in found[0].reason
    memory(2)
    again = list(train_stacks(jobs(tmp_path, tokens_path, *large, *numbered(3))))
    assert [one.status for one in again] == ["finished"] * 5


def test_an_error_that_progress_raises_stops_all_stacks(tmp_path, tokens_path):
    def stop(what, done, total):
        raise RuntimeError("stopped by its caller")

    with pytest.raises(RuntimeError, match="stopped by its caller"):
        list(
            train_stacks(
                jobs(tmp_path, tokens_path, RECIPE, replace(RECIPE, name="short", num_steps=20)), progress=stop
            )
        )
    assert not (tmp_path / "short").exists()


def test_another_error_of_torch_fails_the_runs_of_its_stack_only(tmp_path, tokens_path):
    large = replace(RECIPE, name="large", decoder=replace(RECIPE.decoder, hidden=2**50))
    broken, whole = train_stacks(jobs(tmp_path, tokens_path, large, RECIPE))
    assert (broken.status, whole.status) == ("failed", "finished")
    assert "training stopped (" in broken.reason
