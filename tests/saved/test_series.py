"""Series in folders and on a hub: their steps, the contents of each step, and the errors for missing parts."""

import errno
import json
import os
import shutil
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest
import torch
from faulty_series import HUB, STEPS, TRAINER, as_bin, cut_off, plant_malicious, trained, write_index, write_series
from hub_client import point_to
from hub_server import Fault, LocalHub, local_hub
from safetensors.torch import load_file, save_file
from torch import nn

from joma.errors import BadInput, InvalidArgument, RunFailed, Unreachable
from joma.saved.ranges import Meter
from joma.saved.series import open_series
from joma.saved.stores import step_in
from joma.train.checkpoints import checkpoint_of, write_checkpoint, write_snapshot

QKV = "gpt_neox.layers.1.attention.query_key_value.weight"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The folder of a hub with a series; tests must not change it."""
    folder = tmp_path_factory.mktemp("hub")
    write_series(folder)
    return folder


@pytest.fixture
def hub(written, tmp_path, monkeypatch):
    """A running hub with that folder."""
    with local_hub(written) as running:
        point_to(running.endpoint, tmp_path, monkeypatch)
        yield running


@pytest.fixture
def own_hub(written, tmp_path, monkeypatch):
    """A running hub with a copy of that folder, which tests may change."""
    shutil.copytree(written, tmp_path / "hub")
    with local_hub(tmp_path / "hub") as running:
        point_to(running.endpoint, tmp_path, monkeypatch)
        yield running


def place(hub: LocalHub, step: int) -> Path:
    return hub.folder / HUB.format(step=step)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step0", 0),
        ("step143000", 143000),
        ("step_000100", 100),
        ("checkpoint-500", 500),
        ("global_step1200", 1200),
        ("step1000-tokens4B", 1000),
        ("stage1-step1000-tokens5B", 1000),
        ("step_20k", 20_000),
        ("epoch=1-step=300", 300),
        ("epoch=3-step=1000-val_loss=0.25", 1000),
        ("global_step_1000_epoch_2", 1000),
        ("iteration_1000", 1000),
        ("iter_0001000", 1000),
        ("ep0-ba1000", 1000),
        ("ep1-ba2000-rank0", 2000),
        ("step-1,234,000", 1_234_000),
        ("step1.5k", 1500),
        ("step2M", 2_000_000),
        ("step 500", 500),
        ("step1000-unsharded", 1000),
        ("2024-05-01-step1000", 1000),
        ("pythia-70m-step3000", 3000),
        ("main", None),
        ("footstep3", None),
        ("v1.0", None),
        ("step10x", None),
        ("checkpoint_7_5500", None),
        ("checkpoint-2024-05-01", None),
        ("step_1_000", None),
        ("step1.000", None),
        ("step1000.5", None),
        ("step1.2345k", None),
        ("step-1e5", None),
        ("step500-to-1000", None),
        ("checkpoint-3-step-500", None),
        ("step500-v1", None),
        ("step20240501T1200", None),
        ("step" + "9" * 5000, None),
        ("step1" + "_a_b=1" * 5000 + "!", None),
    ],
)
def test_the_step_is_found_in_a_name(name, step):
    assert step_in(name) == step


def test_names_in_which_no_step_is_understood_are_listed(tmp_path):
    names = ["checkpoint_7_5500", "checkpoint-2024-05-01", "checkpoint-best", "epoch_3", "1000", "tmp-checkpoint-70"]
    for name in ["checkpoint-5", "checkpoint-60", "logs", "runs", *names]:
        (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.warns(
        UserWarning, match=r"run: left out 1000, checkpoint-2024-05-01, .* and 1 more, because no step is"
    ):
        series = open_series(tmp_path / "run")
    assert series.steps == (5, 60)
    assert sorted(series.left_out) == sorted(names)


def test_weight_files_in_which_no_step_is_understood_are_listed(tmp_path):
    for name in ("step_1_000", "step_2000", "final"):
        save_file({"w": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    with pytest.warns(UserWarning, match=r"left out step_1_000, because"):
        assert open_series(tmp_path).steps == (2000,)


def test_a_folder_of_names_without_a_step_is_refused_by_name(tmp_path):
    for name in ("epoch_1", "epoch_2"):
        (tmp_path / name).mkdir()
    with pytest.raises(BadInput, match=r"no name in which a step is understood \(epoch_1, epoch_2\)"):
        open_series(tmp_path)


def test_revisions_in_which_no_step_is_understood_are_listed(own_hub: LocalHub):
    shutil.copytree(place(own_hub, 20), own_hub.folder / "models/someone/tiny@step_1_000")
    with pytest.warns(UserWarning, match=r"someone/tiny: left out step_1_000, because"):
        assert open_series("someone/tiny").steps == STEPS


@pytest.mark.parametrize("layout", [TRAINER, "run/step{step}", "run/global_step_{step}", "run/step_{step:07d}"])
def test_steps_of_a_folder_are_listed_and_read(tmp_path, layout):
    write_series(tmp_path, layout)
    series = open_series(tmp_path / "run")
    assert series.steps == STEPS
    for step in (0, 60):
        found = series.read(step, [QKV])
        assert torch.equal(found[QKV], trained()[step][QKV])
    checkpoint = series.checkpoint(60)
    assert checkpoint.config["model_type"] == "gpt_neox"
    assert checkpoint.tensors[QKV].shape == (96, 32)
    assert set(checkpoint.tensors) == set(load_file(tmp_path / layout.format(step=60) / "model.safetensors"))
    assert series.bytes_read < series.bytes_stored


def test_a_joma_run_is_read_from_snapshots_or_else_from_checkpoints(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    run = tmp_path / "run"
    for step in (0, 50, 100):
        write_checkpoint(checkpoint_of(step, model, optimizer, 0.0, 0), run / "checkpoints")
        write_snapshot(step, model, run / "snapshots")
    (run / "config.json").write_text(json.dumps({"recipe": {"seed": 3}}))
    series = open_series(run)
    assert series.steps == (0, 50, 100)
    assert torch.equal(series.read(50)["weight"], model.weight)
    assert series.checkpoint(50).config == {"model_type": "joma", "recipe": {"seed": 3}}

    shutil.rmtree(run / "snapshots")  # only the last checkpoints, with optimiser state
    series = open_series(run)
    assert series.steps == (50, 100)
    assert set(series.read(100)) == {"weight", "bias"}


def test_a_single_model_or_file_counts_as_step_0(tmp_path):
    state = trained()[60]
    model = tmp_path / "model"
    model.mkdir()
    save_file(state, model / "model.safetensors")
    for source in (model, model / "model.safetensors"):
        series = open_series(source)
        assert (series.steps, series.numbered) == ((0,), False)
        assert torch.equal(series.read(0, [QKV])[QKV], state[QKV])


def test_weight_files_with_steps_in_their_names_form_a_series(tmp_path):
    for step in (200, 1000):
        save_file({"w": torch.full((2,), float(step))}, tmp_path / f"model-step{step}.safetensors")
    series = open_series(tmp_path)
    assert series.steps == (200, 1000)
    assert series.read(1000)["w"].tolist() == [1000, 1000]


def test_shards_are_read_as_one(tmp_path):
    places = write_series(tmp_path, TRAINER, shards=True)
    assert len(list(places[60].glob("model-*.safetensors"))) > 1
    series = open_series(tmp_path / "run")
    found = series.read(60)
    shards = [load_file(shard) for shard in places[60].glob("model-*.safetensors")]
    expected = {name: tensor for shard in shards for name, tensor in shard.items()}
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)

    shard = sorted(places[40].glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(BadInput, match=f"step 40 .* is incomplete: the shard {shard.name} is missing"):
        series.checkpoint(40)
    first = sorted(places[20].glob("model-*.safetensors"))[0].name
    write_index(places[20], {"renamed.weight": first})
    with pytest.raises(BadInput, match=f"renamed.weight is not in {first}"):
        series.checkpoint(20)


def test_bin_files_are_read_without_safetensors_or_on_request(tmp_path):
    places = write_series(tmp_path, TRAINER)
    as_bin(places[20])
    torch.save(trained()[0], places[60] / "pytorch_model.bin")
    (places[60] / "training_args.bin").write_bytes(b"no weights")
    series = open_series(tmp_path / "run")
    assert [series.checkpoint(step).kind for step in (10, 20, 60)] == ["safetensors", "bin", "safetensors"]
    assert torch.equal(series.read(20, [QKV])[QKV], trained()[20][QKV])
    assert torch.equal(open_series(tmp_path / "run", weights="bin").read(60, [QKV])[QKV], trained()[0][QKV])
    with pytest.raises(BadInput, match=r"holds no bin weights .* expected one of safetensors"):
        open_series(tmp_path / "run", weights="bin").read(10)

    trace = tmp_path / "it ran"
    plant_malicious(places[20] / "pytorch_model.bin", trace)
    with pytest.raises(BadInput, match="was not run"):
        open_series(tmp_path / "run").read(20)
    assert not trace.exists()


def test_an_incomplete_step_is_reported_when_it_is_read(tmp_path):
    places = write_series(tmp_path, TRAINER)
    (places[40] / "model.safetensors").unlink()
    cut_off(places[60] / "model.safetensors")
    (places[20] / "config.json").write_text('{"model_type": ')
    series = open_series(tmp_path / "run")
    with pytest.raises(
        BadInput, match=r"step 40 .* \(checkpoint-40\) holds no model weights \(config.json, .* completely"
    ):
        series.checkpoint(40)
    with pytest.raises(BadInput, match=r"model.safetensors cannot be read: it was cut off: [\d,]+ of [\d,]+ bytes"):
        series.checkpoint(60)
    with pytest.raises(BadInput, match=r"config.json cannot be read"):
        series.checkpoint(20)
    assert series.read(10, [QKV])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("adapter_model.safetensors", "only an adapter"),
        ("adapter_model.bin", "only an adapter"),
        ("optimizer.pt", "only the state of a training run"),
        ("training_args.bin", "only the state of a training run"),
    ],
)
def test_an_adapter_or_training_state_without_a_model_is_reported(tmp_path, file, content):
    places = write_series(tmp_path, TRAINER)
    (places[40] / "model.safetensors").rename(places[40] / file)
    with pytest.raises(BadInput, match=rf"step 40 .* \(checkpoint-40\) holds {content},.* \({file}"):
        open_series(tmp_path / "run").checkpoint(40)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_tensor_names_have_no_prefixes_of_wrappers(tmp_path, prefix):
    places = write_series(tmp_path, TRAINER)
    plain = load_file(places[40] / "model.safetensors")
    save_file({prefix + name: tensor for name, tensor in plain.items()}, places[40] / "model.safetensors")
    series = open_series(tmp_path / "run")
    assert set(series.checkpoint(40).tensors) == set(plain)
    assert torch.equal(series.read(40, [QKV])[QKV], plain[QKV])


def test_tensor_names_of_compiled_submodules_have_no_prefix(tmp_path):
    save_file({"layers.0._orig_mod.w": torch.ones(2), "module.w": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert set(open_series(tmp_path).read(0)) == {"layers.0.w", "module.w"}


def test_the_last_usable_step_is_returned_or_the_first_error_raised(tmp_path):
    write_series(tmp_path, TRAINER)

    def look(step):
        if step > 20:
            raise BadInput("it is crooked", expected="a straight one", remedy="bend it")
        return step

    assert open_series(tmp_path / "run").last(look) == 20
    for steps, later in (([40], ""), ([40, 60], ", and all later steps fail too")):
        with pytest.raises(
            BadInput, match=rf"step 40 of .*run \(checkpoint-40\): it is crooked{later}; expected a str"
        ):
            open_series(tmp_path / "run", steps=steps).last(look)


def test_a_configuration_nested_too_deeply_is_reported(tmp_path):
    places = write_series(tmp_path, TRAINER)
    (places[40] / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(BadInput, match=r"checkpoint-40/config\.json cannot be read \(.*recursion"):
        open_series(tmp_path / "run").checkpoint(40)


def test_missing_steps_and_tensors_and_invalid_arguments_are_reported(tmp_path):
    write_series(tmp_path, TRAINER)
    run = tmp_path / "run"
    with pytest.raises(BadInput, match=r"has no step 30; expected some of its 6 steps, from 0 to 60; .* 10, 20, 40"):
        open_series(run, steps=[0, 30])
    with pytest.raises(BadInput, match=r"the steps 20,10,10 are not in order; .* pass 10,20"):
        open_series(run, steps=[20, 10, 10])
    with pytest.raises(BadInput, match=r"the steps \(none\) are not in order"):
        open_series(run, steps=[])
    series = open_series(run, steps=[0, 10])
    with pytest.raises(InvalidArgument, match="`step` is 20"):
        series.checkpoint(20)
    with pytest.raises(BadInput, match=f"no tensor '{QKV}s'; .*nearest: {QKV}"):
        series.read(0, [f"{QKV}s"])
    with pytest.raises(InvalidArgument, match="`revisions` is 'step0'"):
        open_series(run, revisions="step0")
    with pytest.raises(InvalidArgument, match="`weights` is 'pickle'"):
        open_series(run, weights="pickle")

    shutil.copytree(run / "checkpoint-10", run / "step_10")
    with pytest.raises(BadInput, match="has step 10 twice, as checkpoint-10 and as step_10"):
        open_series(run)


def test_a_source_without_a_model_is_reported(tmp_path):
    with pytest.raises(BadInput, match="is not a folder"):
        open_series(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("nothing")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(BadInput, match=r"holds no model \(notes.txt\)"):
            open_series(source)
    for name in ("a", "b"):
        save_file({"w": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(BadInput, match="several safetensors files"):
        open_series(tmp_path).checkpoint(0)


def test_a_hub_series_is_read_in_parts(hub: LocalHub):
    series = open_series("someone/tiny")
    assert series.steps == STEPS
    requests = [request for request in hub.requests if "someone/tiny" in request]
    assert requests == ["GET /api/models/someone/tiny/refs 200"]  # nothing of the model yet
    found = series.read(40, [QKV])
    assert torch.equal(found[QKV], trained()[40][QKV])
    assert series.bytes_stored == (place(hub, 40) / "model.safetensors").stat().st_size
    assert series.names[40] == "step40"
    assert series.checkpoint(40).files[0].digest.startswith("sha256:")
    before = series.bytes_read
    series.read(40, [QKV])
    assert series.bytes_read - before == 96 * 32 * 4


def test_a_hub_series_of_other_formats(own_hub: LocalHub, tmp_path):
    as_bin(place(own_hub, 20))
    trace = tmp_path / "it ran"
    plant_malicious(as_bin(place(own_hub, 40)), trace)
    series = open_series("someone/tiny")
    assert torch.equal(series.read(20, [QKV])[QKV], trained()[20][QKV])
    with pytest.raises(BadInput, match=r"someone/tiny@step40/pytorch_model.bin is refused"):
        series.read(40)
    assert not trace.exists()


def test_revisions_are_chosen_by_pattern_or_name(own_hub: LocalHub):
    owner = own_hub.folder / "models/someone"
    for name in ("stage1-step20-tokens4B", "stage2-step20-tokens1B", "stage1-step40-tokens8B"):
        shutil.copytree(place(own_hub, 20), owner / f"tiny@{name}")
    with pytest.raises(BadInput, match=r"has step 20 twice, as stage1-step20-tokens4B and as stage2-step20-tokens1B"):
        open_series("someone/tiny")
    assert open_series("someone/tiny", revisions="stage1-*").steps == (20, 40)
    assert open_series("someone/tiny", revisions=["step0", "step60"]).steps == (0, 60)
    single = open_series("someone/tiny", revisions=["main"])
    assert (single.steps, single.numbered) == ((0,), False)
    with pytest.raises(BadInput, match=r"has no revision 'step50'; expected one of its 10 \(nearest: .*step\d0"):
        open_series("someone/tiny", revisions=["step50"])
    with pytest.raises(BadInput, match=r"has no revision 'stage3-\*'"):
        open_series("someone/tiny", revisions="stage3-*")


def test_a_missing_revision_is_reported(own_hub: LocalHub):
    shutil.rmtree(place(own_hub, 40))
    with pytest.raises(BadInput, match=r"has no step 40; .* take one of the nearest, 10, 20, 60"):
        open_series("someone/tiny", steps=[0, 40])


def test_requests_to_an_overloaded_hub_are_repeated(hub: LocalHub):
    hub.faults = [Fault("refs", 2), Fault("/revision/", 2), Fault("model.safetensors", 2)]
    series = open_series("someone/tiny")
    assert torch.equal(series.read(10, [QKV])[QKV], trained()[10][QKV])
    assert all(fault.times == 0 for fault in hub.faults)

    hub.faults = [Fault("model.safetensors", 100)]
    with pytest.raises(
        RunFailed, match=r"someone/tiny@step20/model.safetensors could not be fetched: .* 4 times .*503"
    ):
        series.read(20, [QKV])


def test_an_interrupted_download_continues_where_it_stopped(hub: LocalHub):
    series = open_series("someone/tiny")
    series.checkpoint(10)
    before = series.bytes_read
    hub.faults = [Fault("model.safetensors", 3, HTTPStatus.OK, sent=1000)]
    assert torch.equal(series.read(10, [QKV])[QKV], trained()[10][QKV])
    assert series.bytes_read - before == 96 * 32 * 4
    assert hub.faults[0].times == 0


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (
            None,
            {"Content-Range": "bytes 8-16391/99999"},
            "it sent the range 'bytes 8-16391/99999' instead of bytes 0 to",
        ),
        (None, {"Content-Range": "bytes 0-99999999/*"}, "it sent the range"),
        (None, {"Content-Range": "a part"}, "it sent the range 'a part'"),
        (None, {"Content-Range": f"bytes {'9' * 5000}-1/2"}, "it sent the range"),
        (None, {"Content-Encoding": "gzip"}, "in the encoding gzip"),
        (bytes(40_000), {}, "more than bytes 0 to"),
    ],
)
def test_an_answer_with_anything_but_the_requested_range_is_refused(hub: LocalHub, body, headers, says):
    hub.faults = [Fault("model.safetensors", 1, HTTPStatus.OK, body=body, headers=headers)]
    with pytest.raises(BadInput, match=rf"does not send parts of someone/tiny@step10/model\.safetensors: .*{says}"):
        open_series("someone/tiny").read(10, [QKV])


def test_a_hub_that_sends_nothing_is_given_up(hub: LocalHub):
    hub.faults = [Fault("model.safetensors", 1000, HTTPStatus.OK, body=b"")]
    with pytest.raises(Unreachable, match=r"0 of [\d,]+ bytes came in 64 answers"):
        open_series("someone/tiny").read(10, [QKV])
    assert hub.faults[0].times == 1000 - 64


def test_a_hub_that_sends_single_bytes_is_given_up(hub: LocalHub):
    hub.faults = [Fault("model.safetensors", 1000, HTTPStatus.OK, sent=1)]
    with pytest.raises(Unreachable, match=r" 64 of [\d,]+ bytes came in 64 answers"):
        open_series("someone/tiny").read(10, [QKV])


def test_a_hub_that_is_too_slow_is_given_up(hub: LocalHub, monkeypatch):
    monkeypatch.setattr("joma.saved.hub._PATIENCE_S", -100.0)
    with pytest.raises(Unreachable, match=r" 0 of [\d,]+ bytes came in 0 answers"):
        open_series("someone/tiny").read(10, [QKV])


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"3", b"{}", b"[" * 100_000, b'{"branches": [3], "tags": 1}'])
@pytest.mark.parametrize("question", ["refs", "/revision/"])
def test_an_answer_that_is_no_list_of_revisions_or_files_is_refused(hub: LocalHub, question, body):
    hub.faults = [Fault(question, 1, HTTPStatus.OK, body=body)]
    with pytest.raises(
        BadInput, match=r"what the hub says of someone/tiny.* is not understood|holds no model weights|no st"
    ):
        open_series("someone/tiny").checkpoint(10)


def test_a_hash_that_is_a_path_is_not_used_as_the_name_of_a_file(hub: LocalHub, tmp_path):
    cache = tmp_path / "kept/inner"
    series = open_series("someone/tiny", cache=cache)
    listing = series.files(10)
    assert all(file.digest for file in listing.values())
    path = "/api/models/someone/tiny/revision/"
    summary = {
        "id": "someone/tiny",
        "siblings": [{"rfilename": "model.safetensors", "size": 99, "blobId": "../../out"}],
    }
    hub.faults = [Fault(path, 1, HTTPStatus.OK, body=json.dumps(summary).encode())]
    assert open_series("someone/tiny", cache=cache).files(10)["model.safetensors"].digest is None


def test_an_unreachable_hub_raises_and_earlier_tensors_remain(written, tmp_path, monkeypatch):
    with local_hub(written) as hub:
        point_to(hub.endpoint, tmp_path, monkeypatch)
        series = open_series("someone/tiny")
        kept = series.read(0, [QKV])
    with pytest.raises(Unreachable, match=r"did not answer 4 times .* check the network"):
        series.read(20, [QKV])
    assert torch.equal(kept[QKV], trained()[0][QKV])
    with pytest.raises(Unreachable, match="someone/tiny could not be fetched"):
        open_series("someone/tiny")


def test_requests_that_a_hub_refuses_are_reported(hub: LocalHub, monkeypatch):
    with pytest.raises(BadInput, match=r"someone/absent is neither a folder here nor a repository on the hub"):
        open_series("someone/absent")
    hub.gated.add("someone/tiny")
    with pytest.raises(BadInput, match=r"someone/tiny is gated; .* HF_TOKEN"):
        open_series("someone/tiny")
    hub.gated.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unreachable, match=r"HF_HUB_OFFLINE forbids requests to the hub; .* unset HF_HUB_OFFLINE"):
        open_series("someone/tiny")


def test_cached_bytes_are_not_downloaded_again(hub: LocalHub, tmp_path):
    cache = tmp_path / "kept"
    first = open_series("someone/tiny", cache=cache).read(40)
    hub.requests.clear()
    again = open_series("someone/tiny", cache=cache)
    assert all(torch.equal(tensor, first[name]) for name, tensor in again.read(40).items())
    assert again.bytes_read == 0
    assert not any("resolve" in request for request in hub.requests)
    # Without a cache, nothing is written to disk.
    before = sorted(tmp_path.rglob("*"))
    open_series("someone/tiny").read(40)
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_cached_bytes_are_downloaded_again(hub: LocalHub, tmp_path):
    cache = tmp_path / "kept"
    first = open_series("someone/tiny", cache=cache).read(40)
    for path in [path for path in cache.rglob("*") if path.is_file()]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    again = open_series("someone/tiny", cache=cache)
    assert all(torch.equal(tensor, first[name]) for name, tensor in again.read(40).items())
    assert again.bytes_read > 0
    once_more = open_series("someone/tiny", cache=cache)
    once_more.read(40)
    assert once_more.bytes_read == 0


def test_a_full_disk_is_reported(hub: LocalHub, tmp_path, monkeypatch):
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        RunFailed, match=r"the disk is full.* free some disk space, choose another cache, or keep nothing"
    ):
        open_series("someone/tiny", cache=tmp_path / "kept").read(40)


def test_the_hub_named_in_the_environment_is_used(hub: LocalHub, tmp_path):
    code = "from joma.saved.series import open_series as o; s = o('someone/tiny'); print(s.steps, len(s.read(0)))"
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"{STEPS} {len(load_file(place(hub, 0) / 'model.safetensors'))}"


def test_bytes_are_counted_once_per_read(tmp_path):
    assert Meter().bytes_read == 0
    save_file({"w": torch.ones(10)}, tmp_path / "model.safetensors")
    series = open_series(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    series.checkpoint(0)
    # The request for the header reads all of a small file.
    assert (series.bytes_read, series.bytes_stored) == (size, size)
    series.read(0)
    assert series.bytes_read == size + 40
