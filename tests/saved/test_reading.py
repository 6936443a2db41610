"""Reading tensors from parts of files gives the same numbers as reading whole files; bad files are refused."""

import json
import struct
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_series import cut_off, plant_malicious
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from joma.errors import BadInput
from joma.saved.gguf import quantised_places
from joma.saved.pickled import pickled_places
from joma.saved.ranges import LocalFile, Meter
from joma.saved.reading import beginning, not_finite, read_places, safetensors_places


@pytest.fixture
def various() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "float": torch.randn(3, 4),
        "half": torch.randn(7).half(),
        "brain": torch.randn(2, 5).bfloat16(),
        "double": torch.randn(2, 2, 2).double(),
        "long": torch.arange(5),
        "bool": torch.tensor([True, False, True]),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
    }


def opened(path: Path) -> tuple[LocalFile, Meter]:
    meter = Meter()
    return LocalFile(path, meter), meter


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_safetensors_are_read_as_by_the_library(various, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(various, path, {"format": "pt"})
    file, _ = opened(path)
    assert_same(read_places(file, safetensors_places(file, path.name)), load_file(path))


def test_only_requested_tensors_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {f"layers.{layer}.weight": torch.randn(200, 200) for layer in range(20)}
    save_file(tensors, path)
    file, meter = opened(path)
    places = safetensors_places(file, path.name, guess=1 << 11)
    header = meter.bytes_read
    wanted = {name: places[name] for name in ("layers.3.weight", "layers.11.weight")}
    assert_same(read_places(file, wanted), {name: tensors[name] for name in wanted})
    assert meter.bytes_read == header + 2 * 200 * 200 * 4
    assert header < 4096
    assert file.size > 3_200_000

    part = {"layers.5.weight": beginning(places["layers.5.weight"], 1000)}
    before = meter.bytes_read
    assert torch.equal(read_places(file, part)["layers.5.weight"], tensors["layers.5.weight"].flatten()[:1000])
    assert meter.bytes_read == before + 4000


def test_a_header_longer_than_the_first_request_is_read_completely(various, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(various, path)
    file, _ = opened(path)
    assert safetensors_places(file, "m", guess=9) == safetensors_places(file, "m", guess=1 << 20)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it has 0 bytes, too few for a header"),
        (struct.pack("<Q", 1 << 60) + b"{}", "it is not a safetensors file"),
        (struct.pack("<Q", 100) + b"{}", r"cut off inside its header, after 10 of 108 bytes"),
        (struct.pack("<Q", 4) + b"oops", r"header is malformed \(JSONDecodeError"),
        (struct.pack("<Q", 2) + b"[]", r"header is malformed \(ValueError: it holds a list"),
    ],
)
def test_a_file_that_is_not_safetensors_is_refused(tmp_path, content, problem):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=problem):
        safetensors_places(opened(path)[0], "m")


def test_a_header_that_contradicts_itself_is_refused(tmp_path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(BadInput, match=r"8 bytes for \(2, 2\) of torch.float32"):
        safetensors_places(opened(path)[0], "m")


def header_of(entries: dict | str, content: bytes = b"") -> bytes:
    header = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return struct.pack("<Q", len(header)) + header + content


def entry(dtype: str, shape: list, start: object, stop: object) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    "content",
    [
        header_of({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 0, 8)}, bytes(8)),  # the same bytes twice
        header_of({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12)),  # a gap
        header_of({"a": entry("F32", [1], 0, 4)}, bytes(12)),  # more than the header states
        header_of({"a": entry("F32", [1.5], 0, 6)}, bytes(6)),
        header_of({"a": entry("F32", [-1, -1], 0, 4)}, bytes(4)),
        header_of({"a": entry("F32", [1 << 62, 4], 0, 0)}),
        header_of({"a": entry("F32", [10**4000, 0], 0, 0)}),
        header_of({"a": entry("F32", [1], 10**4000, 10**4000 + 4)}, bytes(4)),
        header_of({"a": entry("F32", "1", 0, 4)}, bytes(4)),
        header_of('{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}', bytes(4)),
        header_of('{"a":' * 50_000 + "1" + "}" * 50_000),
        header_of({"a": None}),
    ],
)
def test_headers_that_the_library_refuses_are_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SafetensorError):
        load_file(path)
    with pytest.raises(BadInput, match="header is malformed"):
        safetensors_places(opened(path)[0], "m")


@pytest.mark.parametrize(
    "content",
    [
        header_of(
            '{"a": ' + json.dumps(entry("F32", [0], 0, 0)) + ', "a": ' + json.dumps(entry("F32", [0], 0, 0)) + "}"
        ),
        header_of({"a": entry("F32", [1] * 70, 0, 4)}, bytes(4)),
    ],
    ids=["a name twice", "more axes than torch has"],
)
def test_headers_that_name_no_tensors_of_torch_are_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="header is malformed"):
        safetensors_places(opened(path)[0], "m")


@pytest.mark.parametrize(
    "dtype", [torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.float8_e5m2fnuz, torch.float8_e4m3fnuz]
)
def test_rare_types_of_numbers_are_read(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    tensor = torch.arange(24, dtype=torch.uint8).view(dtype)
    save_file({"packed": tensor, "scale": torch.ones(3)}, path)
    file, _ = opened(path)
    found = read_places(file, safetensors_places(file, path.name))
    assert found["packed"].dtype == dtype
    assert torch.equal(found["packed"].view(torch.uint8), tensor.view(torch.uint8))


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F6_E3M2", "I4", "NF4"])
def test_types_that_torch_does_not_have_are_named_with_what_converts_them(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    path.write_bytes(header_of({"layers.0.weight": entry(dtype, [2], 0, 1)}, bytes(1)))
    with pytest.raises(BadInput, match=rf"holds layers\.0\.weight in {dtype}, a packed type .* dequantise them"):
        safetensors_places(opened(path)[0], "m")


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(BadInput, match=r"a pointer of Git LFS to it; .* git lfs pull"):
        safetensors_places(opened(path)[0], "m")


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_bin_files_are_read_as_by_torch(various, tmp_path, as_zip):
    base = torch.randn(6, 5)
    views = {"transposed": base.T, "rows": base[2:4], "tied": various["float"], "spread": torch.ones(3, 1).expand(3, 5)}
    parameters = {"parameter": torch.nn.Parameter(torch.randn(4))}
    path = tmp_path / "pytorch_model.bin"
    torch.save(OrderedDict(various | views | parameters), path, _use_new_zipfile_serialization=as_zip)
    file, _ = opened(path)
    found = read_places(file, pickled_places(file, path.name))
    assert_same(found, {name: value.detach() for name, value in torch.load(path, weights_only=True).items()})


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_only_requested_tensors_of_a_bin_file_are_read(tmp_path, as_zip):
    path = tmp_path / "pytorch_model.bin"
    tensors = {f"layers.{layer}.weight": torch.randn(200, 200) for layer in range(20)}
    torch.save({"model": tensors, "epoch": 3}, path, _use_new_zipfile_serialization=as_zip)
    file, meter = opened(path)
    places = pickled_places(file, path.name)
    header = meter.bytes_read
    assert torch.equal(read_places(file, {"w": places["layers.7.weight"]})["w"], tensors["layers.7.weight"])
    assert meter.bytes_read == header + 200 * 200 * 4
    assert header < 60_000 < file.size / 50


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "plain pickle"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, as_zip):
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "it ran"
    plant_malicious(path, trace, as_zip)
    with pytest.raises(BadInput, match=r"is refused: its pickle refers to \w+\.exec, and was not run"):
        pickled_places(opened(path)[0], path.name)
    assert not trace.exists()
    if as_zip:  # control: unrestricted loading runs the code
        torch.load(path, weights_only=False)
        assert trace.exists()


def test_a_truncated_bin_file_is_refused(tmp_path):
    for as_zip in (True, False):
        path = tmp_path / f"{as_zip}.bin"
        torch.save({"weight": torch.randn(100, 100)}, path, _use_new_zipfile_serialization=as_zip)
        cut_off(path)
        with pytest.raises(BadInput, match=r"cannot be read: (BadZipFile|it was cut off: 24,\d+ of 40,\d+)"):
            pickled_places(opened(path)[0], path.name)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\x02K\x01.", b"no pickle at all", b"\x80\x02]q\0."])
def test_a_file_that_is_not_a_bin_file_is_refused(tmp_path, content):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read"):
        pickled_places(opened(path)[0], path.name)


def write_gguf(path: Path, hidden: int = 64, heads: int = 4, key_heads: int = 2) -> dict[str, np.ndarray]:
    """Write a one-layer Llama as llama.cpp converts it, in each number format; return the tensors of transformers."""
    import gguf

    random = np.random.default_rng(0)
    rows = {"attn_q": hidden, "attn_k": hidden // heads * key_heads, "ffn_down": hidden}
    kinds = {"attn_q": "Q8_0", "attn_k": "F32", "ffn_down": "F16"}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_embedding_length(hidden)
    writer.add_token_list(["a", "b"])
    ours = {}
    for part, num_rows in rows.items():
        weight = random.standard_normal((num_rows, hidden)).astype(np.float32)
        ours[part] = weight
        if part in ("attn_q", "attn_k"):  # rotary pairs (i, i + half) become adjacent
            per_head = weight.reshape(heads if part == "attn_q" else key_heads, 2, -1, hidden)
            weight = np.ascontiguousarray(per_head.swapaxes(1, 2).reshape(num_rows, hidden))
        kind = gguf.GGMLQuantizationType[kinds[part]]
        writer.add_tensor(f"blk.0.{part}.weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ours


def test_gguf_tensors_have_the_names_and_row_order_of_transformers(tmp_path, tolerance):
    path = tmp_path / "model.gguf"
    expected = write_gguf(path)
    file, _ = opened(path)
    config, places = quantised_places(file, path.name)
    assert config["model_type"] == "llama"
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["hidden_size"]) == (4, 2, 64)
    found = read_places(file, places)
    ours = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "mlp.down_proj": "ffn_down"}
    for name, part in ours.items():
        weight = found[f"model.layers.0.{name}.weight"].float().numpy()
        bound = 0 if part == "attn_k" else tolerance("gguf.eight_bits")
        assert np.abs(weight - expected[part]).max() <= bound * np.abs(expected[part]).max()


def test_a_truncated_gguf_file_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path)
    cut_off(path, 0.9)
    with pytest.raises(BadInput, match="it was cut off"):
        quantised_places(opened(path)[0], path.name)
    cut_off(path, 0.005)
    with pytest.raises(BadInput, match="its header is malformed"):
        quantised_places(opened(path)[0], path.name)


def test_without_the_gguf_package_the_error_names_the_extra(monkeypatch, tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path)
    monkeypatch.setitem(sys.modules, "gguf", None)  # makes the import fail as if it were not installed
    with pytest.raises(BadInput, match=r"pip install 'joma\[gguf\]'"):
        quantised_places(opened(path)[0], path.name)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_with_altered_bytes_is_read_or_refused(tmp_path, seed):
    """No altered file raises anything but ``BadInput``."""
    tensors = {f"layers.{layer}.weight": torch.randn(4, 5) for layer in range(4)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.bin")
    torch.save(tensors, tmp_path / "b.bin", _use_new_zipfile_serialization=False)
    write_gguf(tmp_path / "a.gguf")
    random, refused = np.random.default_rng(seed), 0
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for _ in range(60):
            altered = bytearray(whole)
            for place in random.integers(0, min(len(whole), 1500), 3):
                altered[place] = random.integers(256)
            path.write_bytes(altered)
            file, _ = opened(path)
            find = {".bin": pickled_places, ".safetensors": safetensors_places}.get(path.suffix)
            try:
                places = find(file, "m") if find else quantised_places(file, "m")[1]
                read_places(file, places)
            except BadInput:
                refused += 1
    assert refused > 60


def test_the_first_tensor_that_is_not_finite_is_described():
    tensors = {"fine": torch.ones(2), "counts": torch.arange(2), "bad": torch.tensor([1.0, torch.nan]).half()}
    assert not_finite(tensors) == "bad is NaN or infinite in 1 of 2 entries"
    assert not_finite({"fine": torch.ones(2)}) is None
