"""Devices by choice, and records that move as a whole."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

from joma.devices import device_of, moved
from joma.errors import InvalidArgument


class Pair(NamedTuple):
    numbers: torch.Tensor
    name: str


@dataclass(frozen=True)
class Nested:
    pair: Pair
    parts: tuple[torch.Tensor, ...]


def test_auto_is_an_accelerator_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto", "f") == torch.device("cuda")
    assert device_of("cpu", "f") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto", "f") == torch.device("cpu")


def test_another_choice_is_refused():
    with pytest.raises(InvalidArgument, match="`device` is 'gpu'; expected one of cpu, auto"):
        device_of("gpu", "f")


def test_every_tensor_of_a_record_moves_and_the_rest_stays():
    there = moved(Nested(Pair(torch.ones(2), "x"), (torch.zeros(1),)), "meta")
    assert [there.pair.numbers.device.type, there.parts[0].device.type] == ["meta", "meta"]
    assert isinstance(there.pair, Pair)
    assert there.pair.name == "x"
