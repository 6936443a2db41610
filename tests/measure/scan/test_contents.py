"""Missing steps and tokenizers that differ are found without reading weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from joma.measure.scan.contents import different_tokenizers, gaps
from joma.measure.scan.verification import verify
from joma.saved.series import Series, open_series


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ((0, 10, 20, 40, 50, 60), [30]),
        ((0, 10, 20, 50, 60, 70), [30]),  # 30 and 40
        ((0, 20, 30, 40, 50), [10]),
        ((0, 10, 20, 30, 50), [40]),
        ((0, 1000, 2000, 4000, 5000, 7000, 8000, 9000), [3000, 6000]),
        ((512, 1000, 2000, 3000, 5000, 6000, 7000), [4000]),
        ((0, 10, 20, 30, 40), []),
        ((0, 1, 2, 4, 8, 16, 32, 64), []),
        ((0, 4, 10, 20, 40, 60), []),
        ((0, 1, 2, 3, 10, 20, 30, 40), []),
        ((0, 10, 20, 30, 45, 55, 65), []),
        ((0, 20, 30), []),
        ((0,), []),
    ],
)
def test_a_step_missing_in_an_even_row_is_found(steps, missing):
    found = list(gaps(steps))
    assert [row.step for row in found] == missing
    assert {(row.kind, row.severity) for row in found} <= {("gap", "warning")}


def test_a_gap_names_all_missing_steps_and_what_they_hide():
    (row,) = gaps((0, 10, 20, 30, 70, 80, 90))
    assert "nothing between 30 and 70 (missing: 40, 50, 60)" in row.evidence
    assert "would not be seen" in row.evidence


def series(folder: Path, tokenizers: dict[int, dict], steps: tuple[int, ...] = (0, 10, 20, 40, 50)) -> Series:
    for step in steps:
        place = folder / f"step{step}"
        place.mkdir()
        save_file({"w": torch.randn(4, 4)}, place / "model.safetensors")
        if step in tokenizers:
            (place / "tokenizer.json").write_text(json.dumps(tokenizers[step]))
    return open_series(folder)


def test_a_selection_of_steps_has_no_gaps(tmp_path):
    series(tmp_path, {}, (0, 10, 20, 30, 40, 50))
    found = verify(open_series(tmp_path, steps=[0, 10, 20, 40, 50]))
    assert "gap" not in {row.kind for row in found.rows}


BPE = {"version": "1.0", "padding": None, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 1, "b": 0}, "merges": []}}, [20]),
        ({"pre_tokenizer": {"type": "Whitespace"}}, [20]),
        ({"padding": {"strategy": "BatchLongest"}}, []),
        ({"version": "2.0"}, []),
    ],
)
def test_a_tokenizer_that_gives_other_tokens_is_found(tmp_path, odd, expected):
    tokenizers = dict.fromkeys((0, 10, 20, 40), BPE) | {20: BPE | odd}
    found = list(different_tokenizers(series(tmp_path, tokenizers), [0, 10, 20, 40, 50]))
    assert [row.step for row in found] == expected
    assert all("3 of 4 steps share another one" in row.evidence for row in found)


@pytest.mark.parametrize("content", ["[]", "3", '"x"', "{", "[" * 100_000])
def test_a_tokenizer_that_is_no_object_is_another_one(tmp_path, content):
    opened = series(tmp_path, dict.fromkeys((0, 10, 20), BPE))
    (tmp_path / "step10" / "tokenizer.json").write_text(content)
    assert [row.step for row in different_tokenizers(opened, list(opened.steps))] == [10]
