"""Families of transformers, measured on random weights and compared with the weights that they return."""

import re

import pytest
import torch
import transformers
from small_families import NotBuilt
from swept_families import PAGE, agree_in_order, kinds, row_of, sweep

FEW = [
    *("bert", "bloom", "clip", "deberta", "falcon", "gemma2", "gpt2", "gpt_neo", "gpt_oss", "inkling2_text", "mistral"),
    *("modernbert", "qwen2_vl_text", "vit", "youtu"),
]
"""Position biases, caps, sinks, windows, latent keys, unscaled scores, two towers, own code, and some to be refused."""


@pytest.fixture(scope="module")
def page():
    text = PAGE.read_text(encoding="utf-8")
    if f"transformers {transformers.__version__} builds" not in text:
        pytest.skip(f"docs/families.md is of another version of transformers than {transformers.__version__}")
    return text


@pytest.mark.parametrize("kind", FEW)
def test_a_family_is_measured_right_or_refused_and_the_page_says_so(kind, page):
    results = sweep(kind)
    assert {found.result for found in results.values()} <= {"right", "refused"}
    assert row_of(kind, results) in page.splitlines()


def test_the_counts_on_the_page_are_those_of_its_rows(page):
    rows = [line.split(" | ")[1:4] for line in page.splitlines() if line.startswith("| `")]
    right = [row for row in rows if {cell.strip() for cell in row} <= {"right", ""}]

    def count(words):
        return int(re.search(rf"(\d+)\s{words}", page.replace("\n", " "))[1])

    assert count("families that transformers") == len(rows)
    assert count("are measured right") == len(right)
    assert count("with texts") == right.count(["right"] * 3)
    assert count("are refused") == sum("refused" in row for row in rows)
    assert count("are measured wrong") == sum("different" in row for row in rows) == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_family_is_measured_wrong_and_the_page_says_which_are_refused(page):
    rows, left_out = [], []
    for kind in kinds():
        try:
            rows.append(row_of(kind, sweep(kind)))
        except NotBuilt:
            left_out.append(kind)
    assert [row for row in rows if "| different |" in row] == []
    assert rows == [line for line in page.splitlines() if line.startswith("| `")]
    assert page.splitlines()[-1] == ", ".join(f"`{kind}`" for kind in left_out)


def test_layers_agree_only_with_equal_values_in_the_order_of_each_part():
    layers = [torch.full((4,), float(value)) for value in range(4)]
    text, images = layers[:2], layers[2:]
    assert agree_in_order([*images, *text], [text, images], 1e-5)
    assert agree_in_order([layers[0], layers[2]], [layers], 1e-5)
    assert agree_in_order(layers, [layers[1:3]], 1e-5)
    assert not agree_in_order([layers[1], layers[0]], [text], 1e-5)
    assert not agree_in_order([layers[0], layers[1] + 1e-4], [text], 1e-5)
    assert not agree_in_order([layers[0], layers[1][:2]], [text], 1e-5)
    assert not agree_in_order([layers[3]], [text], 1e-5)
