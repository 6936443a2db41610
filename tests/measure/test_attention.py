import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from joma.errors import InvalidArgument
from joma.measure.attention import (
    attention_entropy,
    attention_with_lse,
    blockwise_attention,
    first_token_share,
    key_share,
    visible_keys,
)


def materialised(q: Tensor, k: Tensor, scale: float | None, is_causal: bool, mask: Tensor | None) -> Tensor:
    """The whole matrix of attention weights in float64; rows without a key are 0."""
    q, k = q.double(), k.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask.double()
    return scores.softmax(-1).nan_to_num(0.0)


def entropy_of(weights: Tensor) -> Tensor:
    return -torch.xlogy(weights, weights).sum(-1)


def some(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def alibi(num_heads: int, length: int) -> Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    slopes = 2.0 ** -torch.arange(1, num_heads + 1)
    bias = -slopes[:, None, None] * distance
    return bias.masked_fill(distance < 0, -math.inf)[None]


PADDING = torch.arange(40) < torch.tensor([[40], [7], [1]])
PACKED = torch.block_diag(torch.ones(15, 15), torch.ones(25, 25)).bool().tril()
WINDOW = torch.ones(40, 40, dtype=torch.bool).tril().triu(-4)

CASES = {
    "bidirectional": {},
    "causal": {"is_causal": True},
    "padded": {"attn_mask": PADDING[:, None, None, :]},
    "packed": {"attn_mask": PACKED},
    "sliding window": {"attn_mask": WINDOW},
    "per head": {"attn_mask": some(3, 4, 40, 40, seed=5) > -0.5},
    "additive": {"attn_mask": some(3, 1, 40, 40, seed=6)},
    "ALiBi": {"attn_mask": alibi(4, 40)},
    "scaled": {"is_causal": True, "scale": 0.7},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_agrees_with_the_materialised_softmax(case, key_heads, tolerance):
    settings = CASES[case]
    q, k = some(3, 4, 40, 16, spread=2.0), some(3, key_heads, 40, 16, seed=1, spread=2.0)
    weights = materialised(q, k, settings.get("scale"), settings.get("is_causal", False), settings.get("attn_mask"))
    expected = entropy_of(weights)
    found = attention_entropy(q, k, **settings)
    assert found.shape == (3, 4, 40)
    assert (found - expected).abs().max() <= tolerance("attention.entropy")
    num_visible = (weights > 0).sum(-1)
    normalized = attention_entropy(q, k, **settings, normalized=True)
    assert (normalized * num_visible.double().log() - expected).abs().max() <= tolerance("attention.entropy")
    assert (first_token_share(q, k, **settings) - weights[..., 0]).abs().max() <= tolerance("attention.share")
    wanted = some(3, 40, seed=9) > 0
    share = (weights * wanted[:, None, None]).sum(-1)
    assert (key_share(q, k, wanted, **settings) - share).abs().max() <= tolerance("attention.share")
    assert torch.equal(visible_keys(q, k, **{n: v for n, v in settings.items() if n != "scale"}).expand(3, 4, 40),
                       num_visible)  # fmt: skip


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(1, 1), (5, 300), (300, 5), (700, 700)])
def test_fused_and_blockwise_pass_agree(is_causal, num_queries, num_keys, tolerance):
    q, k, v = some(2, 3, num_queries, 8, spread=2.0), some(2, 3, num_keys, 8, seed=1), some(2, 3, num_keys, 8, seed=2)
    fused = attention_with_lse(q, k, v, scale=0.5, is_causal=is_causal, attn_mask=None)
    plain = blockwise_attention(q, k, v, scale=0.5, is_causal=is_causal, attn_mask=None)
    assert fused.mean_score is None  # else both would have gone the same way
    assert (fused.lse - plain.lse).abs().max() <= tolerance("attention.entropy")
    assert (fused.output - plain.output).abs().max() <= tolerance("attention.entropy")
    weights = materialised(q, k, 0.5, is_causal, None)
    assert (plain.lse - plain.mean_score - entropy_of(weights)).abs().max() <= tolerance("attention.entropy")
    assert (plain.output - weights @ v.double()).abs().max() <= tolerance("attention.entropy")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("is_causal", [False, True])
def test_agrees_on_an_accelerator(is_causal, tolerance):
    q, k = some(2, 4, 300, 64), some(2, 2, 300, 64, seed=1)
    found = attention_entropy(q.cuda(), k.cuda(), is_causal=is_causal).cpu()
    assert (found - entropy_of(materialised(q, k, None, is_causal, None))).abs().max() <= tolerance("attention.entropy")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("case", ["causal", "additive"])
def test_every_precision_is_raised(dtype, case, tolerance):
    q, k = some(3, 4, 40, 16, spread=2.0).to(dtype), some(3, 4, 40, 16, seed=1, spread=2.0).to(dtype)
    found = attention_entropy(q, k, **CASES[case])
    expected = entropy_of(materialised(q, k, None, CASES[case].get("is_causal", False), CASES[case].get("attn_mask")))
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (found - expected).abs().max() <= tolerance("attention.entropy")


def test_keys_with_a_large_common_part_lose_no_digits(tolerance):
    """Real models' keys share a large offset: it moves all scores of a query alike and must not reach the entropy."""
    q, k = some(1, 2, 60, 16), (some(1, 2, 60, 16, seed=1) + 1000 * some(1, 2, 1, 16, seed=2)).round()
    expected = entropy_of(materialised(q, k, None, True, None))
    assert (attention_entropy(q, k, is_causal=True) - expected).abs().max() <= tolerance("attention.entropy")


@pytest.mark.parametrize("bias", [False, True])
def test_a_query_without_keys_has_entropy_zero(bias):
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    mask[..., 3, :] = False
    given = torch.zeros(1, 1, 6, 6).masked_fill(~mask, -math.inf) if bias else mask
    q, k = some(2, 2, 6, 4), some(2, 2, 6, 4, seed=1)
    for normalized in (False, True):
        entropy = attention_entropy(q, k, attn_mask=given, normalized=normalized)
        assert entropy.isfinite().all()
        assert (entropy[:, :, [0, 3]] == 0).all()
        assert (entropy[:, :, [1, 2, 4, 5]] > 0).all()
    assert (first_token_share(q, k, attn_mask=given)[:, :, 3] == 0).all()


def test_even_attention_has_normalised_entropy_one(tolerance):
    q, k = torch.zeros(1, 1, 50, 8), some(1, 1, 50, 8)
    entropy = attention_entropy(q, k, is_causal=True, normalized=True)
    assert entropy[0, 0, 0] == 0
    assert (entropy[0, 0, 1:] - 1).abs().max() <= tolerance("attention.entropy")


class Largest(TorchDispatchMode):
    """Note how many entries the largest tensor has that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor):
                self.numel = max(self.numel, part.numel())
        return result


@pytest.mark.parametrize("settings", [{"is_causal": True}, {"attn_mask": torch.zeros(1, 1, 1, 2048)}])
def test_no_matrix_of_queries_by_keys_is_built(settings):
    q, k = some(1, 1, 2048, 8), some(1, 1, 2048, 8, seed=1)
    with Largest() as largest:
        attention_entropy(q, k, **settings)
    assert 0 < largest.numel <= 2048 * 2048 / 32


def test_gradients_are_not_recorded():
    q = some(1, 1, 4, 8).requires_grad_()
    assert not attention_entropy(q, q).requires_grad


GOOD = some(2, 4, 6, 8)


@pytest.mark.parametrize(
    ("parameter", "call"),
    [
        ("k", lambda: attention_entropy(GOOD, GOOD[:, :3])),
        ("k", lambda: attention_entropy(GOOD, GOOD[..., :4])),
        ("k", lambda: attention_entropy(GOOD[0], GOOD[0])),
        ("q", lambda: attention_entropy(GOOD[:, :, :0], GOOD)),
        ("k", lambda: attention_entropy(GOOD, GOOD[:, :, :0])),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, is_causal=True, attn_mask=torch.ones(6, 6).bool())),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, attn_mask=torch.ones(5, 6).bool())),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, attn_mask=torch.ones(6, 6).long())),
        ("keys", lambda: key_share(GOOD, GOOD, torch.ones(2, 5).bool())),
        ("keys", lambda: key_share(GOOD, GOOD, torch.ones(2, 6))),
    ],
)
def test_refuses_what_does_not_fit(parameter, call):
    with pytest.raises(InvalidArgument, match=f"`{parameter}`"):
        call()
