import errno
import json
import math
import os
import signal
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import NUM_WORDS, tiny_recipe, tiny_tokens

from joma.errors import BadInput, DiskFull, RunFailed
from joma.files import write_json
from joma.serialization import sealed
from joma.train.checkpoints import checkpoint_paths, read_checkpoint
from joma.train.loop import writing
from joma.train.run import Run, load_run, locked
from joma.train.training import train

RECIPE = tiny_recipe()


def numbers_of(run: Run) -> tuple[bytes, bytes]:
    """All bytes of the measurements and of the last checkpoint."""
    return run.journal_path.read_bytes(), checkpoint_paths(run.checkpoint_folder)[0].read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return train(RECIPE, tiny_tokens(), tmp_path_factory.mktemp("runs") / "tiny")


class Stop(Exception):
    """Raised by the progress callback of a test."""


def stop_at(step: int):
    def progress(_: str, done: float, total: float) -> None:
        if done == step:
            raise Stop

    return progress


def test_loss_falls_by_half_of_what_can_be_learned(finished):
    losses = {
        row.step: row.value for row in finished.measurements() if row.metric == "val_loss_nats"
    }  # fmt: skip
    assert losses[0] == pytest.approx(math.log(NUM_WORDS), rel=0.1)
    share_right = 0.8 + 0.2 / NUM_WORDS
    entropy = -share_right * math.log(share_right) - 0.19 * math.log(0.2 / NUM_WORDS)
    assert losses[RECIPE.num_steps] < (losses[0] + entropy) / 2  # half of what there is to learn


def test_measurements_are_rows_with_the_runs_name(finished):
    rows = finished.measurements()
    assert {row.run for row in rows} == {"tiny"}
    assert sorted({row.step for row in rows}) == RECIPE.probe_steps()
    assert {row.step for row in rows if row.metric == "train_loss_nats"} == set(RECIPE.probe_steps()[1:])
    assert all(math.isfinite(row.value) for row in rows)


def test_configuration_contains_recipe_text_and_versions(finished):
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["versions"]["torch"] == torch.__version__
    assert config["device"] == "cpu"
    assert config["text"]["digest"] == tiny_tokens().digest
    assert load_run(finished.folder) == finished
    steps = [read_checkpoint(path).step for path in checkpoint_paths(finished.checkpoint_folder)]
    assert steps == [120, 100]


def test_finished_network_has_the_last_measured_loss(finished):
    decoder = finished.decoder()
    assert not decoder.training
    last = {row.metric: row.value for row in finished.measurements() if row.step == RECIPE.num_steps}
    from joma.train.probes import Probe

    again = {row.metric: row.value for row in Probe(RECIPE, tiny_tokens(), torch.device("cpu")).measure(decoder)}
    assert again["val_loss_nats"] == last["val_loss_nats"]


def test_training_is_bitwise_reproducible_and_keeps_the_random_state_of_the_caller(finished, tmp_path):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    num_threads = torch.get_num_threads()
    again = train(RECIPE, tiny_tokens(), tmp_path / "tiny")
    assert numbers_of(again) == numbers_of(finished)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == num_threads


def test_another_seed_gives_other_numbers(finished, tmp_path):
    other = train(replace(RECIPE, seed=1), tiny_tokens(), tmp_path / "tiny")
    assert numbers_of(other) != numbers_of(finished)


def test_a_finished_run_is_not_trained_again(finished):
    before, steps = numbers_of(finished), []
    train(RECIPE, tiny_tokens(), finished.folder, progress=lambda _, done, total: steps.append((done, total)))
    assert steps == [(120, 120)]
    assert numbers_of(finished) == before


@pytest.mark.parametrize("step", [0, 1, 24, 25, 26, 70, 119, 120])
def test_run_stopped_at_any_step_is_resumed_with_the_same_numbers(finished, tmp_path, step):
    folder, steps = tmp_path / "tiny", []
    with pytest.raises(Stop):
        train(RECIPE, tiny_tokens(), folder, progress=stop_at(step))
    run = train(RECIPE, tiny_tokens(), folder, progress=lambda _, done, total: steps.append(done))
    assert steps[0] == step  # a checkpoint of the very step
    assert numbers_of(run) == numbers_of(finished)


def test_ctrl_c_waits_for_the_end_of_a_step_and_leaves_a_checkpoint(finished, tmp_path):
    folder = tmp_path / "tiny"
    handler = signal.getsignal(signal.SIGINT)

    def strike(_: str, done: float, total: float) -> None:
        if done == 33:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tiny_tokens(), folder, progress=strike)
    assert signal.getsignal(signal.SIGINT) is handler
    assert read_checkpoint(checkpoint_paths(folder / "checkpoints")[0]).step == 33
    assert numbers_of(train(RECIPE, tiny_tokens(), folder)) == numbers_of(finished)


def test_damaged_checkpoint_is_replaced_by_the_previous_one(finished, tmp_path):
    folder, steps = tmp_path / "tiny", []
    with pytest.raises(Stop):
        train(RECIPE, tiny_tokens(), folder, progress=stop_at(80))
    newest = checkpoint_paths(folder / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="step_000080.safetensors is damaged"):
        run = train(RECIPE, tiny_tokens(), folder, progress=lambda _, done, total: steps.append(done))
    assert steps[0] == 75
    assert numbers_of(run) == numbers_of(finished)


def test_damaged_measurements_are_repeated_and_earlier_ones_kept(finished, tmp_path):
    folder = tmp_path / "tiny"
    run = train(RECIPE, tiny_tokens(), folder)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    lines[8] = lines[8].replace(b"0.", b"1.", 1)
    run.journal_path.write_bytes(b"".join(lines))
    last_whole = RECIPE.probe_steps()[7]
    with pytest.raises(RunFailed, match=f"line 9 .* up to step {last_whole} are intact"):
        run.measurements()
    kept = []

    def look(_: str, done: float, total: float) -> None:
        if not kept:
            kept.append(run.journal_path.read_bytes())

    with pytest.warns(UserWarning, match="line 9 of .* is damaged"):
        train(RECIPE, tiny_tokens(), folder, progress=look)
    assert kept[0] == b"".join(lines[:8])  # nothing before the damage was thrown away
    assert numbers_of(run) == numbers_of(finished)


def test_nan_loss_stops_the_run_with_the_step(tmp_path):
    recipe = replace(RECIPE, learning_rate=1e30, decoder=replace(RECIPE.decoder, layer_norm=False))
    with pytest.raises(RunFailed, match=r"NaN or infinite at step 2\b.*measurements up to step 0.*learning rate"):
        train(recipe, tiny_tokens(), tmp_path / "run")
    rows = Run(tmp_path / "run", recipe).measurements()
    assert {row.step for row in rows} == {0}
    assert checkpoint_paths(tmp_path / "run" / "checkpoints") == []


def test_folder_of_another_recipe_is_refused_with_the_difference(finished):
    other = replace(RECIPE, learning_rate=1e-4, decoder=replace(RECIPE.decoder, dropout=0.5))
    with pytest.raises(BadInput, match=r"decoder.dropout is 0.2 there and 0.5 here; learning_rate is 0.003 there"):
        train(other, tiny_tokens(), finished.folder)


def test_folder_of_another_text_is_refused(finished):
    with pytest.raises(BadInput, match="digest is 'tiny-3000' there and 'tiny-3001' here"):
        train(RECIPE, tiny_tokens(3001), finished.folder)


def test_folder_with_other_files_is_refused_and_not_changed(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match=r"other files \(thesis.tex\)"):
        train(RECIPE, tiny_tokens(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_damaged_configuration_is_refused(finished, tmp_path):
    (tmp_path / "config.json").write_text((finished.folder / "config.json").read_text()[:50])
    with pytest.raises(BadInput, match=r"config.json cannot be read"):
        train(RECIPE, tiny_tokens(), tmp_path)


def test_resuming_with_another_version_gives_a_warning(tmp_path):
    with pytest.raises(Stop):
        train(RECIPE, tiny_tokens(), tmp_path, progress=stop_at(10))
    config = tmp_path / "config.json"
    changed = json.loads(config.read_text().replace(torch.__version__, "1.0"))
    write_json(config, sealed({name: changed[name] for name in changed if name != "crc32"}))
    with pytest.warns(UserWarning, match=r"torch 1.0 -> "), pytest.raises(Stop):
        train(RECIPE, tiny_tokens(), tmp_path, progress=stop_at(12))


def test_the_configuration_says_in_how_many_steps_the_text_is_read_once(tmp_path):
    for one_query, steps in ((False, 49), (True, 490)):  # streams of 500 words, read in windows of 10 or one by one
        with pytest.raises(Stop):
            train(replace(RECIPE, one_query=one_query), tiny_tokens(), tmp_path / str(one_query), progress=stop_at(10))
        config = json.loads((tmp_path / str(one_query) / "config.json").read_text())
        assert config["text"].pop("steps_per_epoch") == steps
    older = {name: config[name] for name in config if name != "crc32"}
    write_json(tmp_path / "True" / "config.json", sealed(older))
    with pytest.raises(Stop):
        train(replace(RECIPE, one_query=True), tiny_tokens(), tmp_path / "True", progress=stop_at(12))


@pytest.mark.parametrize(
    ("recipe", "tokens", "message"),
    [
        (RECIPE, tiny_tokens(60), "only 40 tokens to train on; expected at least 44"),
        (RECIPE, tiny_tokens(200), "only 67 tokens held out; expected at least 88"),
        (tiny_recipe(decoder=replace(RECIPE.decoder, vocabulary_size=21)), tiny_tokens(), "20 different tokens"),
    ],
)
def test_text_that_does_not_fit_the_recipe_is_refused(recipe, tokens, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        train(recipe, tokens, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_refused_with_what_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    places = {tmp_path / "file" / "run": "file is a file", tmp_path / "link": "link is a broken symbolic link"}
    places |= {Path("/proc/run"): "no folder can be made in /proc"} if Path("/proc/self").exists() else {}
    for folder, what in places.items():
        with pytest.raises(RunFailed, match=rf"{what}.*; nothing was written; choose another folder") as caught:
            train(RECIPE, tiny_tokens(), folder)
        assert "disk space" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [(errno.ENOSPC, DiskFull, "free disk space"), (errno.EROFS, RunFailed, "choose another folder")],
)
def test_only_a_full_disk_is_to_be_freed(tmp_path, code, kind, remedy):
    (tmp_path / "mine").write_text("mine")
    with (
        pytest.raises(RunFailed, match=f"{tmp_path} keeps mine; {remedy}") as caught,
        writing(tmp_path, lambda: "mine"),
    ):
        raise OSError(code, os.strerror(code), str(tmp_path / "new"))
    assert type(caught.value) is kind


def test_text_is_read_cyclically(tmp_path):
    """Steps alternate between the two windows per stream, and never use tokens past the end or held-out tokens."""
    recipe = replace(RECIPE, num_steps=5)
    tokens = tiny_tokens(3000)
    tokens = replace(tokens, train=tokens.train[: 4 * 21], digest="short")
    assert train(recipe, tokens, tmp_path / "run").journal().last_step == 5


def test_unigram_output_bias_starts_at_the_log_frequencies_of_words(tmp_path):
    recipe = replace(RECIPE, num_steps=1, decoder=replace(RECIPE.decoder, output_bias="unigram"))
    tokens = tiny_tokens()
    tokens = replace(tokens, train=torch.where(tokens.train < 10, 3, tokens.train), digest="one word in two")
    bias = train(recipe, tokens, tmp_path / "run").decoder().output.bias.detach()
    counts = torch.bincount(tokens.train, minlength=NUM_WORDS)
    expected = ((counts + 1) / (len(tokens.train) + NUM_WORDS)).log()
    assert (bias - expected).abs().max() <= 1.01 * recipe.learning_rate  # one step of Adam moved it


def test_folder_in_use_by_another_process_is_refused(finished, monkeypatch):
    monkeypatch.setattr("joma.train.run._WAIT_SECONDS", 0.1)
    with locked(finished.folder), pytest.raises(BadInput, match="another process is training"):
        train(RECIPE, tiny_tokens(), finished.folder)


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_folder_that_another_process_removes_before_it_is_locked_is_refused(made_anew, tmp_path, monkeypatch):
    folder, other = tmp_path / "run", ExitStack()
    folder.mkdir()
    other.enter_context(locked(folder))

    def end_the_other(seconds: float) -> None:
        folder.rmdir()
        if made_anew:
            (tmp_path / "in between").mkdir()  # so that the new folder has another inode
            folder.mkdir()
        other.close()

    monkeypatch.setattr("joma.train.run.time.sleep", end_the_other)
    with pytest.raises(BadInput, match=r"another process has removed .*run"), locked(folder):
        pass


def test_training_in_another_thread_gives_the_same_numbers(finished, tmp_path):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(train(RECIPE, tiny_tokens(), tmp_path / "tiny")))
    thread.start()
    thread.join()
    assert numbers_of(runs[0]) == numbers_of(finished)
