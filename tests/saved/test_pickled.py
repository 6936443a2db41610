"""Which mapping of a ``.bin`` file is the model, and what is refused in one."""

import argparse
import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from joma.errors import BadInput
from joma.saved.pickled import pickled_places
from joma.saved.ranges import LocalFile, Meter
from joma.saved.reading import read_places

STATE = {"layers.0.weight": torch.arange(6.0).view(2, 3), "layers.0.bias": torch.ones(2)}


def read(path: Path) -> dict[str, torch.Tensor]:
    file = LocalFile(path, Meter())
    return read_places(file, pickled_places(file, path.name))


def saved(content: object, folder: Path, **how: bool) -> Path:
    torch.save(content, folder / "model.bin", **how)
    return folder / "model.bin"


OPTIMISER = {"state": {0: {"exp_avg": torch.zeros(2, 3)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    "saved_with_it",
    [
        {"iter_num": 100, "best_val_loss": torch.tensor(3.0)},
        {"optimizer": OPTIMISER, "epoch": 3},
        {"optimizer_state_dict": OPTIMISER, "rng_state": {"cpu": torch.zeros(5, 1, dtype=torch.uint8)}},
        {"ema": {name: tensor + 1 for name, tensor in STATE.items()}},
        {"class_weights": torch.ones(4, 4)},
        {"args": argparse.Namespace(lr=0.1), "dtype": torch.bfloat16, "seen": {1, 2}, "device": torch.device("cpu")},
    ],
)
@pytest.mark.parametrize("key", ["model", "state_dict", "module"])
@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_the_state_dict_is_found_among_what_a_training_loop_saves(tmp_path, saved_with_it, key, as_zip):
    content = saved_with_it | {key: OrderedDict(STATE)}
    found = read(saved(content, tmp_path, _use_new_zipfile_serialization=as_zip))
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"], ids=["Python 3.11", "Python 3.13"])
def test_paths_among_the_settings_are_read_over_as_any_python_names_them(tmp_path, monkeypatch, module):
    named = type("PosixPath", (), {"__module__": module, "__reduce__": lambda self: (type(self), ())})
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(PosixPath=named))
    path = saved({"model": STATE, "data": named()}, tmp_path)
    monkeypatch.undo()
    assert list(read(path)) == list(STATE)


@pytest.mark.parametrize(
    "content",
    [
        {"net": STATE, "best": torch.tensor(1.0)},
        {"payload": {"weights": STATE}, "optimizers": [OPTIMISER], "optim": OPTIMISER},
        {"state_dict": {"model": STATE}},
        STATE | {"history": {"losses": torch.ones(3)}},
    ],
)
def test_the_only_mapping_with_matrices_is_the_state_dict(tmp_path, content):
    assert list(read(saved(content, tmp_path))) == list(STATE)


def test_a_state_dict_of_vectors_alone_is_read(tmp_path):
    assert list(read(saved({"model": {"scale": torch.ones(3)}, "loss": torch.tensor(1.0)}, tmp_path))) == ["scale"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"generator": STATE, "discriminator": STATE | {"w": torch.ones(1, 1)}}, "generator, discriminator"),
        ({"model": {"encoder": STATE, "decoder": dict(STATE)}}, r"model\.encoder, model\.decoder"),
        ({"state_dict": STATE, "model": dict(STATE)}, "state_dict, model"),
    ],
)
def test_several_mappings_with_matrices_are_refused_by_name(tmp_path, content, named):
    with pytest.raises(BadInput, match=rf"holds several mappings of tensors \({named}\); .*; save the state dict"):
        read(saved(content, tmp_path))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16, torch.complex64])
def test_newer_types_of_numbers_are_read(tmp_path, dtype):
    state = {"weight": torch.ones(2, 3).to(dtype)}
    found = read(saved(state, tmp_path))["weight"]
    assert found.dtype == dtype
    assert torch.equal(found.view(torch.uint8), state["weight"].view(torch.uint8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_named_with_what_converts_it(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), tmp_path / "model.pt")
    with pytest.raises(BadInput, match=r"is a scripted module, .*torch.jit.load\(file\)\.state_dict\(\)"):
        read(tmp_path / "model.pt")


# --- hostile files


def tensor_pickle(shape: tuple, stride: tuple, offset: int = 0, key: str = "0") -> bytes:
    """A pickle of one tensor, as torch writes it, with any numbers."""

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, stride, False, OrderedDict())

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, data):
            return ("storage", torch.FloatStorage, key, "cpu", 4) if isinstance(data, Storage) else None

    content = io.BytesIO()
    Pickler(content, 2).dump({"weight": Tensor()})
    return content.getvalue()


def archive(path: Path, records: list[tuple[str, bytes]], **how: int) -> Path:
    with zipfile.ZipFile(path, "w", **how) as written:
        for name, content in records:
            written.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((1 << 40,), (0,), 0),  # a terabyte from four numbers
        ((1 << 20, 1 << 20), (0, 0), 0),
        ((1 << 62, 1 << 62), (1, 1), 0),
        ((2,) * 70, (1,) * 70, 0),
        ((2, 3), (3, 1), 0),  # more than its storage has
        ((4,), (1,), 1),
        ((4,), (1, 1), 0),
        ((-4,), (1,), 0),
        ((4.0,), (1,), 0),
        ((4,), (10**5000,), 0),
        (10**9, 1, 0),
    ],
)
def test_tensors_that_the_file_does_not_hold_are_refused(tmp_path, shape, stride, offset):
    records = [("data.pkl", tensor_pickle(shape, stride, offset)), ("data/0", bytes(16)), ("data/1", bytes(999))]
    with pytest.raises(BadInput, match="cannot be read"):
        read(archive(tmp_path / "model.bin", records))


def test_a_tensor_with_the_numbers_of_its_storage_is_read(tmp_path):
    records = [("data.pkl", tensor_pickle((2, 2), (2, 1))), ("data/0", struct.pack("<4f", 1, 2, 3, 4))]
    assert read(archive(tmp_path / "model.bin", records))["weight"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("records", "how", "problem"),
    [
        ([("data/0", b"12345678"), ("data/0", b"abcdefgh")], {}, "two records with the same name"),
        ([("data/0", bytes(16)), ("byteorder", b"little" * 1000)], {}, "big-endian"),
        ([("data/0", bytes(16))], {"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        ([("data/1", bytes(16))], {}, "malformed"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_other_than_those_of_torch_are_refused(tmp_path, records, how, problem):
    path = archive(tmp_path / "model.bin", [("data.pkl", tensor_pickle((2, 2), (2, 1))), *records], **how)
    with pytest.raises(BadInput, match=problem):
        read(path)


def test_records_that_are_not_aligned_are_found_by_their_headers(tmp_path):
    """The first and the last record begin where torch would align them, and one in between does not."""
    path = tmp_path / "model.bin"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("archive/data.pkl", tensor_pickle((2, 2), (2, 1), key="1"))
        for number in range(3):
            record = zipfile.ZipInfo(f"archive/data/{number}")
            if number != 1:  # its extra field fills the space up to the next multiple of 64
                start = written.fp.tell() + 30 + len(record.filename) + 4
                record.extra = struct.pack("<HH", 0x4246, -start % 64) + bytes(-start % 64)
            written.writestr(record, struct.pack("<4f", *range(number, number + 4)))
    assert read(path)["weight"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "description",
    [
        b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",  # a mapping within itself, under the name of a model
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02" + b"}" * 50 + b".",
    ],
)
def test_pickles_without_tensors_or_within_themselves_are_refused(tmp_path, description):
    with pytest.raises(BadInput, match=r"cannot be read|holds a [a-zA-Z]+, not tensors by name"):
        read(archive(tmp_path / "model.bin", [("data.pkl", description)]))


def test_mappings_that_are_held_many_times_are_looked_at_once(tmp_path):
    inner: dict = dict(STATE)
    for _ in range(8):
        inner = {f"part{number}": inner for number in range(30)}
    assert list(read(saved(inner, tmp_path))) == list(STATE)
