"""What a folder of a run holds is checked before it is used, and what is lost is reported."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from tiny import tiny_recipe, tiny_tokens

from joma.errors import BadInput, RunFailed
from joma.files import write_json
from joma.serialization import CHECKSUM
from joma.train.checkpoints import checkpoint_paths, path_of, write_snapshot
from joma.train.decoder import Decoder
from joma.train.run import Run, load_run, shrink_run
from joma.train.saved_runs import run_probe, saved_decoder
from joma.train.training import train

RECIPE = tiny_recipe(num_steps=40, checkpoint_every=20)


def numbers_of(run: Run) -> tuple[bytes, bytes]:
    """All bytes of the measurements and of the last checkpoint."""
    return run.journal_path.read_bytes(), checkpoint_paths(run.checkpoint_folder)[0].read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return train(RECIPE, tiny_tokens(), tmp_path_factory.mktemp("runs") / "tiny")


@pytest.mark.parametrize(
    ("cut", "message"), [(0, "is empty or missing"), (5, "ends at step 12"), (-1, "ends at step 35")]
)
def test_measurements_lost_from_a_finished_run_are_reported_and_repeated(finished, tmp_path, cut, message):
    folder = shutil.copytree(finished.folder, tmp_path / "tiny")
    run = Run(folder, RECIPE)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join(lines[:cut]) + lines[cut][:9])  # the last line is incomplete
    with pytest.raises(RunFailed, match=rf"metrics\.jsonl {message}, but step_000040\.safetensors was saved later"):
        run.measurements()
    with pytest.warns(UserWarning, match=f"{message}.*measuring again"):
        train(RECIPE, tiny_tokens(), folder)
    assert numbers_of(run) == numbers_of(finished)


def test_missing_measurements_of_a_finished_run_are_reported(finished, tmp_path):
    run = Run(shutil.copytree(finished.folder, tmp_path / "tiny"), RECIPE)
    run.journal_path.unlink()
    with pytest.raises(RunFailed, match="is empty or missing"):
        run.measurements()


CONFIG = {"recipe": RECIPE.to_json(), "versions": {}, "device": "cpu", "text": {}}


@pytest.mark.parametrize(
    "config",
    [
        *([], None, 3, "x", {}),
        CONFIG | {"recipe": 3},
        CONFIG | {"recipe": {}},
        CONFIG | {"recipe": RECIPE.to_json() | {"num_steps": "40"}},
        CONFIG | {"recipe": RECIPE.to_json() | {"seed": 1.5}},
        CONFIG | {"recipe": RECIPE.to_json() | {"decoder": None}},
        CONFIG | {"recipe": RECIPE.to_json() | {"name": None}},
        CONFIG | {"versions": {"torch": 3}},
        CONFIG | {"versions": None},
        CONFIG | {"device": []},
        CONFIG | {"text": "x"},
        CONFIG | {"law": [1]},
        CONFIG | {"crc32": 1},
    ],
)
def test_configuration_of_another_shape_is_one_error(tmp_path, config):
    write_json(tmp_path / "config.json", config)
    with pytest.raises(BadInput, match=r"config\.json cannot be read|this is no recipe"):
        load_run(tmp_path)


def test_changed_configuration_is_refused_wherever_it_is_read(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "tiny")
    path = folder / "config.json"
    path.write_text(
        path.read_text().replace('"num_heads": 2', '"num_heads": 4')
    )  # which weights of the same shapes fit
    with pytest.raises(BadInput, match="checksum does not match"):
        load_run(folder)
    with pytest.raises(BadInput, match="checksum does not match"):
        run_probe(json.loads(path.read_text()), folder)
    with pytest.raises(BadInput, match="checksum does not match"):
        saved_decoder(json.loads(path.read_text()), {}, with_head=False)


def test_a_run_that_is_older_than_a_setting_counts_as_one_with_its_default(tmp_path):
    run = train(replace(RECIPE, num_steps=2), tiny_tokens(), tmp_path / "tiny")
    path = run.folder / "config.json"
    config = {name: value for name, value in json.loads(path.read_text()).items() if name != CHECKSUM}
    del config["recipe"]["one_query"], config["recipe"]["decoder"]["residual"]
    write_json(path, config)
    train(run.recipe, tiny_tokens(), run.folder)
    with pytest.raises(BadInput, match="one_query is False there and True here"):
        train(replace(run.recipe, one_query=True), tiny_tokens(), run.folder)


def test_snapshot_of_a_network_of_another_width_is_one_error(tmp_path):
    folder = tmp_path / "tiny"
    run = train(replace(RECIPE, num_steps=2, snapshot_every=1), tiny_tokens(), folder)
    other = Decoder(replace(RECIPE.decoder, width=32))
    path_of(1, run.snapshot_folder).unlink()
    write_snapshot(1, other, run.snapshot_folder)
    with pytest.raises(RunFailed, match="no intact snapshot of step 1"):
        run.decoder(1)


def test_a_shrunk_run_keeps_its_last_weights_and_is_trained_again_to_the_bit(tmp_path):
    recipe = replace(RECIPE, snapshot_every=10)
    run = train(recipe, tiny_tokens(), tmp_path / "tiny")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    weights = run.decoder().state_dict()
    freed = shrink_run(run)
    after = {path for path in run.folder.rglob("*") if path.is_file()}
    assert {path.name for path in after} == {"config.json", "metrics.jsonl", "step_000040.safetensors"}
    assert freed == sum(map(len, before.values())) - sum(path.stat().st_size for path in after) > 0
    assert shrink_run(run) == 0
    assert run.measurements()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in run.decoder().state_dict().items())
    with pytest.raises(BadInput, match="only with --keep"):
        run.decoder(10)
    train(recipe, tiny_tokens(), run.folder)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_an_unfinished_run_is_not_shrunk(finished, tmp_path):
    run = Run(shutil.copytree(finished.folder, tmp_path / "tiny"), replace(RECIPE, num_steps=80))
    before = numbers_of(run)
    assert shrink_run(run) == 0
    assert numbers_of(run) == before
