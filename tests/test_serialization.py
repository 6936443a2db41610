"""Whatever a text holds, it becomes data of the declared shape or one ValueError."""

import contextlib
import datetime
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joma.records import Agreement
from joma.serialization import MOST_NESTED, decoded, decoded_yaml, sealed, shaped, unsealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class Point(NamedTuple):
    x: float
    name: str | None = None


@dataclass(frozen=True)
class Path:
    points: tuple[Point, ...]
    weights: Sequence[float] = ()
    kind: Literal["open", "closed"] = "open"
    num: int = 0
    more: dict[str, Any] | None = None


def test_records_are_built_from_mappings():
    data = {"points": [{"x": 1}, {"x": 2.5, "name": "end"}], "weights": [0.5, 2.0], "kind": "closed", "more": {"a": []}}
    assert shaped(data, Path) == Path((Point(1), Point(2.5, "end")), (0.5, 2.0), "closed", 0, {"a": []})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 3}, r"points is 3, not a list"),
        ({"points": [{"x": "1"}]}, r"points\[0\]\.x is '1', not a finite number"),
        ({"points": [{"x": True}]}, r"points\[0\]\.x is True, not a finite number"),
        ({"points": [{"x": 10**400}]}, "not a finite number"),
        ({"points": [{"name": "end"}]}, r"points\[0\] has no x"),
        ({"points": [None]}, r"points\[0\] is None, not a mapping"),
        ({"points": [{"x": 1, "name": 2}]}, r"name is 2, not a text"),
        ({"weights": [0.5, None]}, r"weights\[1\] is None, not a finite number"),
        ({"weights": "0.5"}, "weights is '0.5', not a list"),
        ({"kind": "round"}, "kind is 'round', not one of open, closed"),
        ({"kind": []}, "kind is a list, not one of open, closed"),
        ({"num": 1.0}, "num is 1.0, not a whole number"),
        ({"num": False}, "num is False, not a whole number"),
        ({"more": [1]}, "more is a list, not a mapping"),
        ({"colour": "red"}, "Path has unknown colour"),
    ],
)
def test_data_of_another_shape_is_refused_with_its_place(change, message):
    with pytest.raises(ValueError, match=message):
        shaped({"points": []} | change, Path)


@pytest.mark.parametrize("data", [[], None, 3, "x", True, 1.5])
def test_data_that_is_no_mapping_is_no_record(data):
    for shape in (Path, Point, Agreement, dict[str, Any]):
        with pytest.raises(ValueError, match=r"it is .*, not a mapping"):
            shaped(data, shape)


@given(JSON)
def test_any_data_is_an_agreement_or_a_value_error(data):
    for given_ in (data, {"criterion": data, "measured": data, "controls": [data], "conclusion": data}):
        with pytest.raises(ValueError, match=r"not|has"):
            shaped(given_, Agreement)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[NaN]",
        b"[-Infinity]",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b"[" * (MOST_NESTED + 1) + b"]" * (MOST_NESTED + 1),
        b"1" * 5000,
    ],
)
def test_text_that_is_no_json_of_bounded_depth_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        decoded(text)


def test_json_of_the_greatest_depth_is_decoded():
    text = "[" * MOST_NESTED + "]" * MOST_NESTED
    assert json.dumps(decoded(text)).replace(" ", "") == text


BOMB = "".join(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise("abcdefghij"))


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        f"a: &a [1]\n{BOMB}",
        "[" * 500 + "]" * 500,
        "a: " + "{a: " * 500 + "1" + "}" * 500,
        "\n".join(" " * depth + "-" for depth in range(200)),
        "!!python/object/apply:os.getcwd []",
        "!!binary aGVsbG8=",
        "!!set {a}",
        "? [1]\n: 2",
        "a: \x07",
        "[1,",
        "- 1\n--- \n- 2",
        "*a",
    ],
)
def test_yaml_with_aliases_or_without_bounds_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"YAML|refers to|levels|the tag"):
        decoded_yaml(text)


@given(st.text(alphabet=string.printable + "é\x00\u2028\ud800", max_size=40))
def test_any_text_is_plain_data_in_yaml_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        left = [decoded_yaml(text)]
        while left:
            value = left.pop()
            assert value is None or type(value) in (bool, int, float, str, list, dict, datetime.date, datetime.datetime)
            left += [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []


@given(st.dictionaries(st.text(), JSON))
def test_sealed_data_is_unsealed_unchanged_after_json(data):
    data.pop("crc32", None)
    assert unsealed(decoded(json.dumps(sealed(data)))) == data


def test_a_changed_digit_or_a_missing_checksum_is_found():
    text = json.dumps(sealed({"seconds": 1.25, "values": [0.5, 0.25]}))
    for place, letter in enumerate(text):
        for other in "0123456789":
            if letter.isdigit() and letter != other and '"crc32' not in text[place : place + 6]:
                with pytest.raises(ValueError, match=r"."):
                    unsealed(decoded(f"{text[:place]}{other}{text[place + 1 :]}"))
    with pytest.raises(ValueError, match="no checksum"):
        unsealed({"seconds": 1.25})
