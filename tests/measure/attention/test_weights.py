"""Attention weights against the statistics of the same attention, and against torch's kernel."""

import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.attention.statistics import attention_statistics
from joma.measure.attention.weights import attention_weights

B, H, G, L, E = 2, 4, 2, 9, 8


@pytest.fixture
def qk():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(B, H, L, E, generator=generator), torch.randn(B, G, L, E, generator=generator)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3, "softcap": 2.0},
        {"attn_mask": torch.rand(B, 1, L, L, generator=torch.Generator().manual_seed(1)) > 0.3},
        {"attn_mask": torch.randn(1, H, L, L, generator=torch.Generator().manual_seed(2))},
    ],
    ids=["plain", "causal", "capped", "hidden", "biased"],
)
def test_the_weights_have_the_entropy_that_is_measured_and_sum_to_one(qk, settings):
    weights = attention_weights(*qk, **settings)
    assert weights.shape == (B, H, L, L)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, L, dtype=torch.float64))
    expected = attention_statistics(*qk, **settings)
    entropy = -weights.xlogy(weights).sum(-1)
    torch.testing.assert_close(entropy, expected.entropy_nats.double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights[..., 0], expected.first_token_share.double(), atol=1e-5, rtol=0)


def test_weights_times_values_are_the_output_of_the_kernel(qk):
    q, k = qk
    values = torch.randn(B, G, L, E, generator=torch.Generator().manual_seed(3))
    output = torch.nn.functional.scaled_dot_product_attention(q, k, values, is_causal=True, enable_gqa=True)
    ours = attention_weights(q, k, is_causal=True) @ values.double().repeat_interleave(H // G, 1)
    torch.testing.assert_close(ours, output.double(), atol=1e-5, rtol=0)


def test_a_sink_takes_its_share_and_a_query_that_sees_nothing_gives_none(qk):
    mask = torch.ones(L, L, dtype=torch.bool)
    mask[3] = False
    assert (attention_weights(*qk, attn_mask=mask)[:, :, 3] == 0).all()
    logits = torch.tensor([0.0, 1.0, -1.0, 50.0])
    with_sink = attention_weights(*qk, sinks=logits)
    plain = attention_weights(*qk)
    torch.testing.assert_close(with_sink / with_sink.sum(-1, keepdim=True), plain)
    assert (with_sink.sum(-1)[:, 3] < 1e-12).all()
    assert (with_sink.sum(-1)[:, :3] > 0.5).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidArgument, match="attention_weights"):
        attention_weights(torch.randn(1, 3, 4, 8), torch.randn(1, 2, 4, 8))
