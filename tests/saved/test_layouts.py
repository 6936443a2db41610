"""The files of a step that are read are those that transformers reads; states of other tools are named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from joma.errors import BadInput
from joma.measure.scan.verification import verify
from joma.saved.series import open_series


def model(seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(vocab_size=31, n_embd=8, n_layer=3, n_head=2, n_positions=16))


def state(seed: int) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model(seed).state_dict().items() if name != "lm_head.weight"}


def single(folder: Path, seed: int, name: str = "model.safetensors") -> None:
    if name.endswith(".safetensors"):
        save_file(state(seed), folder / name, {"format": "pt"})
    else:
        torch.save(state(seed), folder / name)


def sharded(folder: Path, seed: int, num: int, name: str = "model.safetensors") -> dict[str, str]:
    """Write shards and their index; return the file of each tensor."""
    tensors = state(seed)
    stem, suffix = name.split(".")
    files = {key: f"{stem}-{i * num // len(tensors) + 1:05}-of-{num:05}.{suffix}" for i, key in enumerate(tensors)}
    for file in set(files.values()):
        held = {key: tensors[key] for key in tensors if files[key] == file}
        if suffix == "safetensors":
            save_file(held, folder / file, {"format": "pt"})
        else:
            torch.save(held, folder / file)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return files


LAYOUTS = {
    "fewer shards over more": [(sharded, 1, 4), (sharded, 2, 2)],
    "more shards over fewer": [(sharded, 1, 2), (sharded, 2, 4)],
    "a single file next to shards": [(sharded, 1, 3), (single, 2)],
    "shards next to an older single file": [(single, 1), (sharded, 2, 3)],
    "shards of both formats": [(sharded, 1, 2, "pytorch_model.bin"), (sharded, 2, 3)],
    "a pickle next to shards of one": [(sharded, 1, 2, "pytorch_model.bin"), (single, 2, "pytorch_model.bin")],
    "a pickle next to a file with another name": [(single, 1, "best.safetensors"), (single, 2, "pytorch_model.bin")],
    "a model next to its variant": [(single, 1, "model.fp16.safetensors"), (single, 2)],
    "a model next to those of others": [(single, 1, "a.safetensors"), (single, 1, "b.safetensors"), (single, 2)],
    "a pickle next to several others": [
        (single, 1, "a.safetensors"),
        (single, 1, "b.safetensors"),
        (single, 2, "pytorch_model.bin"),
    ],
}


@pytest.mark.parametrize("written", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.filterwarnings("ignore:.*, but ")
def test_the_weights_are_those_that_transformers_loads(tmp_path, written):
    model(0).config.save_pretrained(tmp_path)
    for write, *how in written:
        write(tmp_path, *how)
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path).state_dict()
    found = open_series(tmp_path).read(0)
    assert set(found) == set(loaded) - {"lm_head.weight"}
    assert all(torch.equal(found[name], loaded[name]) for name in found)


@pytest.mark.parametrize("stated", ["second.safetensors", "second.safetensors.index.json"])
@pytest.mark.filterwarnings("ignore:.*, but ")
def test_the_weights_that_a_configuration_names_are_read(tmp_path, stated):
    config = model(0).config.to_dict() | {"transformers_weights": stated}
    (tmp_path / "config.json").write_text(json.dumps(config))
    single(tmp_path, 1)
    single(tmp_path, 2, "second.safetensors") if stated.endswith("s") else sharded(tmp_path, 2, 2, "second.safetensors")
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path).state_dict()
    found = open_series(tmp_path).read(0)
    assert all(torch.equal(found[name], loaded[name]) for name in found)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ([(single, 1), (sharded, 2, 3)], r"model\.safetensors\.index\.json has other numbers \(in transformer"),
        ([(single, 1), (single, 2, "pytorch_model.bin")], r"pytorch_model\.bin has other numbers \(in transformer"),
        ([(single, 1), (single, 1, "pytorch_model.bin")], None),
        ([(single, 1), (sharded, 1, 3)], None),
    ],
)
def test_two_models_in_one_step_are_reported_if_they_differ(tmp_path, recwarn, written, says):
    for write, *how in written:
        write(tmp_path, *how)
    notes = open_series(tmp_path).checkpoint(0).notes
    assert len(notes) == len(recwarn.list) == (says is not None)
    if says is not None:
        with pytest.warns(UserWarning, match=f"model.safetensors is read, as transformers does, but {says}"):
            found = verify(open_series(tmp_path)).rows
        assert [(row.kind, row.severity) for row in found if notes[0] in row.evidence] == [("tensors", "warning")]


def test_the_same_weights_rounded_are_no_other_model(tmp_path, recwarn):
    single(tmp_path, 1)
    torch.save({name: tensor.half() for name, tensor in state(1).items()}, tmp_path / "pytorch_model.bin")
    assert open_series(tmp_path).checkpoint(0).notes == ()
    assert not recwarn.list


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    sharded(tmp_path, 1, 2)
    first, second = sorted(tmp_path.glob("model-*"))
    save_file(state(1), second, {"format": "pt"})
    with pytest.raises(BadInput, match=rf"twice, in {first.name} and in {second.name}"):
        open_series(tmp_path).checkpoint(0)


def test_a_tensor_in_another_shard_than_the_index_names_is_refused(tmp_path):
    files = sharded(tmp_path, 1, 2)
    name = next(iter(files))
    moved = files | {name: max(files.values())}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": moved}))
    with pytest.raises(BadInput, match=rf"{name} is not in {moved[name]}, but in {files[name]}"):
        open_series(tmp_path).checkpoint(0)


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"w": 3}}, {"weight_map": None}]
)
def test_an_index_without_files_is_refused(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    single(tmp_path, 1, "model-00001-of-00002.safetensors")
    with pytest.raises(BadInput, match="an index without a weight_map"):
        open_series(tmp_path).checkpoint(0)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "absent.safetensors"])
def test_a_shard_outside_the_folder_is_not_read(tmp_path, shard):
    folder = tmp_path / "step1"
    folder.mkdir()
    single(tmp_path, 1, "secret.safetensors")
    single(folder, 1, "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(BadInput, match="is missing"):
        open_series(folder).checkpoint(1)


def test_a_shard_without_an_index_is_not_taken_for_the_model(tmp_path):
    single(tmp_path, 1, "model-00001-of-00002.safetensors")
    with pytest.raises(BadInput, match=r"is one of 2 shards, and no index"):
        open_series(tmp_path).checkpoint(0)


FOREIGN = {
    "DeepSpeed": (
        ["global_step5/mp_rank_00_model_states.pt", "zero_to_fp32.py"],
        r"DeepSpeed.*zero_to_fp32\.py \. model",
    ),
    "DeepSpeed at the top": (
        ["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"],
        "zero_to_fp32",
    ),
    "DCP": (["__0_0.distcp", "__1_0.distcp"], "format_utils dcp_to_torch"),
    "DCP of accelerate": (["pytorch_model_fsdp_0/__0_0.distcp", "optimizer.bin"], "format_utils dcp_to_torch"),
    "Megatron": (["mp_rank_00/model_optim_rng.pt"], r"Megatron.*tools/checkpoint/convert\.py"),
    "Megatron in parts": (["mp_rank_00_001/model_optim_rng.pt", "mp_rank_01_001/model_optim_rng.pt"], "Megatron"),
    "Megatron's newer format": (["common.pt", "__0_0.distcp"], "Megatron"),
    "Meta": (["consolidated.00.pth", "consolidated.01.pth"], "convert_llama_weights_to_hf"),
    "TensorFlow": (["tf_model.h5"], "from_tf=True"),
    "Flax": (["flax_model.msgpack"], "from_flax=True"),
    "DCP of Lightning": (["__0_0.distcp", "meta.pt"], "format_utils dcp_to_torch"),
    "ONNX": (["onnx/model.onnx"], "an exported model"),
    "an adapter": (["pytorch_lora_weights.safetensors"], "merge_and_unload"),
}


@pytest.mark.parametrize(("names", "says"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("place", ["step5", "run/step5"])
def test_states_of_other_tools_are_named_with_what_converts_them(tmp_path, names, says, place):
    for name in names:
        (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).write_bytes(b"anything")
    with pytest.raises(BadInput, match=says) as caught:
        open_series(tmp_path / place.split("/")[0]).checkpoint(5)
    assert "completely" not in str(caught.value)


def test_a_model_next_to_the_state_of_its_training_is_read(tmp_path):
    place = tmp_path / "checkpoint-5"
    (place / "global_step5").mkdir(parents=True)
    (place / "global_step5/mp_rank_00_model_states.pt").write_bytes(b"")
    single(place, 1)
    for source in (tmp_path, place):
        series = open_series(source)
        assert series.steps == (5,)
        assert set(series.read(5)) == set(state(1))
