"""Arguments at the ends of what attention statistics take: right numbers, or a refusal that names the argument."""

import math

import numpy as np
import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.attention.statistics import attention_entropy, attention_statistics, first_token_share, key_share

SCALES = [-1e8, -1.0, -1e-3, -1e-320, -0.0, 0.0, 1e-320, 1e-3, 1.0, 1e8]


def drawn(length: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    q, k = (torch.randn(1, 2, length, 8, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return q, k


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("scale", SCALES)
def test_every_statistic_is_right_at_every_length_and_sign_of_the_scale(scale, is_causal, dtype, tolerance):
    for length in range(1, 21):
        q, k = drawn(length, dtype)
        scores = q.double() @ k.double().mT * scale
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1) & is_causal
        scores = scores.masked_fill(hidden, -math.inf)
        weights = scores.softmax(-1)
        entropy = torch.special.entr(weights).sum(-1)
        settings = {"scale": scale, "is_causal": is_causal}
        found = attention_statistics(q, k, share_window=length, **settings)
        even = torch.arange(length) % 2 == 0
        for one, other, name in (
            (attention_entropy(q, k, **settings), entropy, "entropy"),
            (first_token_share(q, k, **settings), weights[..., 0], "share"),
            (key_share(q, k, even, **settings), weights[..., even].sum(-1), "share"),
            (found.entropy_nats, entropy, "entropy"),
            (found.sum_of_squares, weights.square().sum(-1), "sum_of_squares"),
            (found.first_token_share, weights[..., 0], "share"),
            (found.window_share, torch.ones_like(entropy), "share"),
        ):
            assert (one - other).abs().max() <= tolerance(f"attention.{name}"), (name, length)
        apart = (found.max_logit - scores.amax(-1)) / scores.amax(-1).abs().clamp_min(1)
        assert apart.abs().max() <= tolerance("attention.max_logit")
        others = scores[..., 1:].softmax(-1).nan_to_num(0)
        without = torch.special.entr(others).sum(-1)
        assert (found.entropy_without_first_nats - without).abs().max() <= tolerance("attention.entropy")


@pytest.mark.parametrize("settings", [{"scale": 1e30}, {"scale": -1e30}, {"scale": 1e-30}, {"softcap": 1e-320}])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e10, 1e30])
def test_no_statistic_of_finite_numbers_of_any_size_is_nan(size, settings):
    q, k = (size * part for part in drawn(9, torch.float32))
    for sinks in (None, torch.tensor([1e300, -math.inf], dtype=torch.float64)):
        found = attention_statistics(q, k, is_causal=True, sinks=sinks, share_window=3, **settings)
        assert not any(field.isnan().any() for field in found)


def test_a_window_beyond_every_integer_of_a_processor_hides_nothing():
    q, k = drawn(5, torch.float32)
    narrow, wide = (attention_statistics(q, k, window=window) for window in (None, 10**30))
    assert torch.equal(narrow.entropy_nats, wide.entropy_nats)


ODD = {
    "nothing": None,
    "text": "q",
    "a number": 1.0,
    "whole numbers": torch.ones(1, 2, 4, 8, dtype=torch.int64),
    "complex numbers": torch.ones(1, 2, 4, 8, dtype=torch.complex64),
    "booleans": torch.ones(1, 2, 4, 8, dtype=torch.bool),
    "no numbers": torch.ones(1, 2, 4, 8, device="meta"),
    "a sparse tensor": torch.ones(4, 8).to_sparse(),
    "a nested tensor": torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)], layout=torch.jagged),
    "70 axes": torch.ones((1,) * 70),
    "three axes": torch.ones(2, 4, 8),
    "no heads": torch.ones(1, 0, 4, 8),
    "no queries": torch.ones(1, 2, 0, 8),
    "no dimensions": torch.ones(1, 2, 4, 0),
    "an array of objects": np.array([{}], dtype=object),
}


@pytest.mark.parametrize("name", ["q", "k"])
@pytest.mark.parametrize("odd", ODD)
def test_what_are_no_heads_is_refused_by_name(odd, name):
    whole = torch.ones(1, 2, 4, 8)
    given = {"q": whole, "k": whole} | {name: ODD[odd]}
    keys = torch.ones(4, dtype=torch.bool)
    for call in (
        lambda: attention_entropy(**given),
        lambda: attention_statistics(**given),
        lambda: first_token_share(**given),
        lambda: key_share(**given, keys=keys),
    ):
        with pytest.raises(InvalidArgument):
            call()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("scale", math.inf),
        ("scale", math.nan),
        ("scale", "1"),
        ("scale", 1e250),
        ("scale", 1j),
        ("is_causal", "no"),
        ("is_causal", torch.ones(2)),
        ("attn_mask", "mask"),
        ("attn_mask", torch.ones(4, 4).to_sparse()),
        ("attn_mask", torch.ones(4, 4, device="meta")),
        ("attn_mask", torch.ones(3, 3, dtype=torch.bool)),
        ("window", 2.5),
        ("window", True),
        ("share_window", 0),
        ("softcap", 0.0),
        ("softcap", "30"),
        ("sinks", [0.0]),
        ("sinks", "sinks"),
        ("sinks", torch.zeros(2, device="meta")),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_name(parameter, value):
    q = torch.ones(1, 2, 4, 8)
    with pytest.raises(InvalidArgument, match=f"attention_statistics: `{parameter}` is") as refused:
        attention_statistics(q, q, **{parameter: value})
    assert refused.value.parameter == parameter
