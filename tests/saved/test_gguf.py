"""GGUF files with numbers that no model has are refused in little time and memory."""

import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from joma.errors import BadInput
from joma.saved.gguf import quantised_places
from joma.saved.ranges import LocalFile, Meter
from joma.saved.reading import read_places

UINT32, INT32, STRING, ARRAY, UINT64 = 4, 5, 8, 9, 10
F32, Q8_0 = 0, 8


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def fact(name: str, kind: int, content: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + content


def tensor(name: str, shape: tuple[int, ...], kind: int = F32, at: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)


def gguf(
    facts: list[bytes], tensors: list[bytes], content: bytes = b"", counts: tuple[int, int] | None = None
) -> bytes:
    num_tensors, num_facts = counts or (len(tensors), len(facts))
    header = b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_facts) + b"".join(facts + tensors)
    return header + bytes(-len(header) % 32) + content


def number(name: str, value: int, kind: int = UINT32) -> bytes:
    return fact(name, kind, struct.pack({UINT32: "<I", INT32: "<i", UINT64: "<Q"}[kind], value))


def array(name: str, kind: int, length: int, content: bytes = b"") -> bytes:
    return fact(name, ARRAY, struct.pack("<IQ", kind, length) + content)


LLAMA = fact("general.architecture", STRING, text("llama"))
HEADS = number("llama.attention.head_count", 4)


def places(path: Path, content: bytes):
    path.write_bytes(content)
    file = LocalFile(path, Meter())
    config, found = quantised_places(file, "m")
    return config, read_places(file, found)


def test_a_file_with_a_tensor_is_read(tmp_path):
    content = gguf([LLAMA, HEADS, array("tokens", STRING, 2, text("a") + text("b"))], [tensor("w", (2, 1))], bytes(8))
    config, found = places(tmp_path / "m.gguf", content)
    assert config["num_attention_heads"] == 4
    assert found["w"].tolist() == [[0, 0]]


HOSTILE = {
    "tensors without end": gguf([], [], counts=(1 << 62, 0)),
    "entries without end": gguf([], [], counts=(0, 1 << 62)),
    "a long list of texts": gguf([array("tokens", STRING, 1 << 40)], []),
    "many empty texts": gguf([array("tokens", STRING, 3_000_000, bytes(24_000_000))], []),
    "nested lists": gguf([array("a", ARRAY, 1, struct.pack("<IQ", ARRAY, 1) * 5000)], []),
    "a list beyond the file": gguf([array("a", UINT32, 1 << 62)], []),
    "a long text": gguf([fact("a", STRING, struct.pack("<Q", 1 << 62))], []),
    "billions of axes": gguf([], [text("w") + struct.pack("<I", 0xFFFFFFFF)]),
    "a shape that overflows": gguf([], [tensor("w", (1 << 40, 1 << 40))], bytes(64)),
    "a tensor beyond the file": gguf([], [tensor("w", (4,), at=1 << 62)], bytes(64)),
    "a negative alignment": gguf([number("general.alignment", -64, INT32)], [tensor("w", (4,))], bytes(64)),
    "no alignment": gguf([number("general.alignment", 0)], [tensor("w", (4,))], bytes(64)),
    "an entry twice": gguf([HEADS, HEADS], [tensor("w", (4,))], bytes(64)),
    "a tensor twice": gguf([], [tensor("w", (4,)), tensor("w", (4,))], bytes(64)),
    "rows that are no blocks": gguf([], [tensor("w", (33, 2), Q8_0)], bytes(128)),
    "the same bytes for all tensors": gguf([], [tensor(str(i), (1 << 20,)) for i in range(200)], bytes(1 << 22)),
    "heads that differ between layers": gguf(
        [LLAMA, array("llama.attention.head_count", UINT32, 2, struct.pack("<2I", 4, 8))],
        [tensor("w", (4,))],
        bytes(64),
    ),
    "heads that are a text": gguf([LLAMA, fact("llama.attention.head_count", STRING, text("4"))], [], bytes(64)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_within_seconds_and_little_memory(tmp_path, content):
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="cannot be read"):
            places(tmp_path / "m.gguf", content)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 20


def test_lists_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr("joma.saved.gguf._MOST_VALUES", 1000)
    lists = [array(str(number), STRING, 400, bytes(3200)) for number in range(3)]
    assert places(tmp_path / "m.gguf", gguf(lists[:2], [tensor("w", (4,))], bytes(16)))[1]["w"].tolist() == [0] * 4
    with pytest.raises(BadInput, match="a list of 400 texts"):
        places(tmp_path / "m.gguf", gguf(lists, [tensor("w", (4,))], bytes(16)))


def test_a_part_of_a_model_is_named_with_what_joins_them(tmp_path):
    with pytest.raises(BadInput, match=r"is one of 3 parts .* llama-gguf-split --merge"):
        places(tmp_path / "m.gguf", gguf([LLAMA, number("split.count", 3)], [tensor("w", (4,))], bytes(64)))
