"""Tensors are read back with their facts, or not at all."""

import pytest
import torch

from joma.tensorfiles import read_tensors, write_tensors

TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(True),
    "c": torch.empty(0, 4),
    "d": torch.ones(3).bfloat16(),
}
FACTS = {"step": 3, "name": "é", "list": [1.5, None]}


def test_facts_and_tensors_are_read_as_written(tmp_path):
    write_tensors(tmp_path / "x.safetensors", FACTS, TENSORS)
    facts, tensors = read_tensors(tmp_path / "x.safetensors")
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_every_altered_byte_of_the_data_and_every_cut_is_found(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, FACTS, TENSORS)
    content = path.read_bytes()
    for at in range(8, len(content)):
        path.write_bytes(content[:at])
        with pytest.raises(ValueError, match=r"."):
            read_tensors(path)
        altered = bytearray(content)
        altered[at] ^= 1
        path.write_bytes(altered)
        if at >= len(content) - 34:  # the data; an altered header may differ in spaces or in the order of tensors alone
            with pytest.raises(ValueError, match=r"."):
                read_tensors(path)
