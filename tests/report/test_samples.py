"""Samples of a hierarchy in a terminal table."""

import pytest
import torch
from rich.console import Console

from joma.problem.tree import balanced_tree
from joma.report.samples import sample_table


def printed(num_tokens: int) -> str:
    law = balanced_tree((num_tokens,), 1.0)  # no latents, and under label 1 every token is present
    samples = law.sample(1, torch.Generator(), torch.tensor([1]))
    console = Console(width=100)
    with console.capture() as captured:
        console.print(sample_table(law, samples))
    return "".join(captured.get().replace("│", " ").split())  # cells are wrapped anywhere


@pytest.mark.parametrize(
    ("num_tokens", "said"), [(200, "198199"), (201, "199…(201inall)"), (300_000, "199…(300,000inall)")]
)
def test_a_long_sequence_is_cut_in_the_table(num_tokens, said):
    text = printed(num_tokens)
    assert said in text
    assert "199200" not in text
    assert ("inall" in text) == (num_tokens > 200)
