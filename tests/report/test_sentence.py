"""Numbers of one sentence's attention."""

import pytest
import torch

from joma.measure.attention.statistics import attention_statistics
from joma.measure.attention.weights import attention_weights
from joma.report.sentence import entropies


@pytest.mark.parametrize("sinks", [None, torch.tensor([1.0, -2.0, 30.0])], ids=["without sinks", "with sinks"])
def test_entropies_of_weights_are_those_of_the_metric(sinks, tolerance):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 7, 8, generator=generator), torch.randn(2, 3, 7, 8, generator=generator)
    weights = attention_weights(q, k, is_causal=True, sinks=sinks)
    expected = attention_statistics(q, k, is_causal=True, sinks=sinks).entropy_nats.double().mean((1, 2))
    assert (entropies(weights[:, None])[:, 0] - expected).abs().max() <= tolerance("attention.entropy")
