"""Families of transformers, measured on random weights and compared with the weights that they return."""

import pytest
import torch
import transformers
from swept_families import PAGE, agree_in_order, kinds, line_of, page_of

FEW = [
    *("bart", "bert", "bloom", "clip", "deberta", "deepseek_v32", "falcon", "gemma2", "gpt2", "gpt_neo", "gpt_oss"),
    *("inkling2_text", "mistral", "modernbert", "qwen2_vl_text", "vit", "youtu"),
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
    row = line_of(kind)
    assert row in page.splitlines()
    assert {cell.strip() for cell in row.split(" | ")[1:4]} <= {"right", "refused", ""}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_family_is_measured_wrong_and_the_page_says_which_are_refused(page):
    lines = list(map(line_of, kinds()))
    assert [line for line in lines if "| different |" in line] == []
    assert page == page_of(lines)


def test_a_page_counts_families_by_their_results():
    lines = dict.fromkeys(kinds(), "a package is missing")
    lines = {kind: f"{kind}: {reason}" for kind, reason in lines.items()}
    lines |= {kind: f"| `{kind}` | right | right | right |  |" for kind in ("bert", "gpt2", "t5")}
    lines |= {"vit": "| `vit` | right |  |  |  |", "bart": "| `bart` | right | refused | different | 0.5 nats |"}
    words = page_of(lines.values()).replace("\n", " ")
    counts = ["Of 5 families", "4 are measured right (3 with texts", "1 with images", "1 are refused"]
    assert [count for count in [*counts, "1 are measured wrong", "0 return no weights"] if count not in words] == []
    with pytest.raises(SystemExit, match="no results of bert"):
        page_of(line for kind, line in lines.items() if kind != "bert")


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
