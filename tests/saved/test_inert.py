"""Pickles are interpreted as by Python's own module, and hostile ones end at once without being run."""

import io
import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.saved.inert import interpreted

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Called(Exception):
    pass


def find(module: str, name: str):
    if name == "OrderedDict":
        return lambda entries=(): dict(entries)
    if name == "bytes":
        return bytes
    if name == "encode":
        return lambda text, coding: text.encode(coding)
    raise Called(f"{module}.{name}")


def load(pid):
    raise Called(f"a persistent {pid}")


def read(content: bytes):
    return interpreted(io.BytesIO(content), find, load)


@settings(max_examples=80, deadline=None)
@given(PLAIN, st.integers(2, 5))
def test_plain_data_is_read_as_by_pickle(data, protocol):
    assert read(pickle.dumps(data, protocol)) == data


def test_attributes_of_an_ordered_mapping_are_ignored():
    mapping = OrderedDict(weight=1)
    mapping.versions = {"": 1}
    assert read(pickle.dumps(mapping, 2)) == {"weight": 1}


def test_what_follows_a_pickle_is_left():
    content = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps("next", 2))
    assert [interpreted(content, find, load) for _ in range(2)] == [[1], "next"]


@pytest.mark.parametrize("data", [date(2024, 5, 1), ValueError("x"), {1, 2}, complex(1, 2)])
def test_other_classes_are_left_to_the_caller(data):
    with pytest.raises((Called, ValueError)):
        read(pickle.dumps(data, 2))


def repeated(content: bytes, times: int) -> bytes:
    return b"\x80\x02" + content * times + b"."


HOSTILE = {
    "a text longer than the file": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "bytes longer than any memory": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
    "a number without end": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "empty sets": repeated(b"\x8f", 1_000_000),
    "more operations than allowed": repeated(b"}", 530_000),
    "tuples nested as a key": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "copies of a long list": b"\x80\x02]("
    + b"N" * 100_000
    + b"eq\x00"
    + b"ccollections\nOrderedDict\nh\x00\x85R" * 9_999
    + b".",
    "a mark that is missing": b"\x80\x02t.",
    "a stack that is empty": b"\x80\x02\x85.",
    "an object below a mark": b"\x80\x02}(Ns.",
    "a memo that is empty": b"\x80\x02h\x05.",
    "a call of a number": b"\x80\x02K\x01)R.",
    "no end": b"\x80\x02N",
    "nothing": b"",
    "an opcode that is not known": b"\x80\x02\xff.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused_within_seconds_and_little_memory(content):
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, LookupError, TypeError)):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 400e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 20


def test_a_huge_memo_index_takes_no_memory():
    tracemalloc.start()
    try:
        assert read(b"\x80\x02Nr\xff\xff\xff\x7f.") is None
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_mapping_that_holds_itself_is_read():
    found = read(b"\x80\x02}q\x00X\x04\x00\x00\x00selfh\x00s.")
    assert found["self"] is found
