import math
import warnings

import pytest
import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias, CausalVariant, causal_lower_right
from torch.utils._python_dispatch import TorchDispatchMode

from joma.errors import InvalidArgument
from joma.measure.attention.statistics import (
    AttentionStatistics,
    attention_entropy,
    attention_statistics,
    census_of_keys,
    first_token_share,
    key_share,
)


def scores_of(
    q: Tensor,
    k: Tensor,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Return the matrix of all scores in float64, −inf for hidden keys."""
    q, k = q.double(), k.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    ahead = torch.arange(k.shape[-2]) - torch.arange(q.shape[-2])[:, None]
    if is_causal:
        scores = scores.masked_fill(ahead > 0, -math.inf)
    if window is not None:
        scores = scores.masked_fill(ahead.abs() >= window, -math.inf)
    if attn_mask is None:
        return scores
    if attn_mask.dtype == torch.bool:
        return scores.masked_fill(~attn_mask, -math.inf)
    return scores + attn_mask.double().masked_fill(attn_mask <= -1e4, -math.inf)


def softmax(scores: Tensor) -> Tensor:
    """Return attention weights; rows without a visible key are 0."""
    return scores.softmax(-1).nan_to_num(0.0)


def materialised(q: Tensor, k: Tensor, **settings) -> Tensor:
    return softmax(scores_of(q, k, **settings))


def entropy_of(weights: Tensor) -> Tensor:
    return -torch.xlogy(weights, weights).sum(-1)


def first_keys(visible: Tensor) -> Tensor:
    """Return for each query which key is the first of its sequence, as (…, L, S) bool.

    It is the first key that the query sees, unless the query at its position sees an earlier one.
    """
    result = torch.zeros_like(visible)
    for *place, i in visible.any(-1).nonzero().tolist():
        rows = visible[tuple(place)]
        j = int(rows[i].nonzero()[0])
        packed = visible.shape[-2] == visible.shape[-1]
        before = rows[j, :j] if packed else rows[:, :j]
        result[(*place, i, j)] = not before.any()
    return result


def expected_statistics(
    q: Tensor, k: Tensor, *, share_window: int, sinks: Tensor | None = None, **settings
) -> AttentionStatistics:
    scores = scores_of(q, k, **settings)
    num_queries, num_keys = scores.shape[-2:]
    if sinks is not None:  # one more key, after all others
        scores = torch.cat((scores, sinks.double()[:, None, None].expand(len(q), -1, num_queries, 1)), dim=-1)
    weights = softmax(scores)
    first = first_keys(scores[..., :num_keys] > -math.inf)
    first = torch.nn.functional.pad(first, (0, scores.shape[-1] - num_keys))
    near = (torch.arange(num_keys) - torch.arange(num_queries)[:, None]).abs() < share_window
    entropy, num_visible = entropy_of(weights), (scores > -math.inf).sum(-1)
    return AttentionStatistics(
        entropy_nats=entropy,
        entropy_normalized=entropy / num_visible.clamp_min(2).double().log(),
        sum_of_squares=weights.square().sum(-1),
        first_token_share=(weights * first).sum(-1),
        entropy_without_first_nats=entropy_of(softmax(scores.masked_fill(first, -math.inf))),
        max_logit=scores[..., :num_keys].amax(-1),
        window_share=(weights[..., :num_keys] * near).sum(-1),
    )


def assert_agree(found: AttentionStatistics, expected: AttentionStatistics, tolerance) -> None:
    bounds = dict.fromkeys(AttentionStatistics._fields, "attention.entropy")
    bounds |= {"first_token_share": "attention.share", "window_share": "attention.share"}
    bounds["sum_of_squares"] = "attention.sum_of_squares"
    bounds["max_logit"] = "attention.max_logit"
    for name, bound in bounds.items():
        one, other = getattr(found, name).cpu(), getattr(expected, name)
        assert one.shape == other.shape
        size = other.abs().clamp_min(1) if name == "max_logit" else 1
        apart = ((one - other) / size).where(one != other, 0)  # a query without keys has −inf in both
        assert apart.abs().max() <= tolerance(bound), name


def some(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def alibi(num_heads: int, length: int) -> Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    slopes = 2.0 ** -torch.arange(1, num_heads + 1)
    bias = -slopes[:, None, None] * distance
    return bias.masked_fill(distance < 0, -math.inf)[None]


LEFT = torch.arange(40) >= torch.tensor([[0], [33], [39]])
PADDING = torch.arange(40) < torch.tensor([[40], [7], [1]])
PACKED = torch.block_diag(torch.ones(15, 15), torch.ones(25, 25)).bool().tril()
WINDOW = torch.ones(40, 40, dtype=torch.bool).tril().triu(-4)

CASES = {
    "bidirectional": {},
    "causal": {"is_causal": True},
    "padded": {"attn_mask": PADDING[:, None, None, :]},
    "padded on the left": {"attn_mask": LEFT[:, None, None, :] & torch.ones(40, 40).bool().tril()},
    "padded on the left, one row": {"attn_mask": LEFT[:, None, None, :]},
    "packed": {"attn_mask": PACKED},
    "packed, bidirectional": {"attn_mask": PACKED | PACKED.mT},
    "packed in windows": {"attn_mask": PACKED.triu(-4)},
    "sliding window": {"attn_mask": WINDOW},
    "per head": {"attn_mask": some(3, 4, 40, 40, seed=5) > -0.5},
    "hidden by the lowest number": {
        "attn_mask": torch.zeros(40, 40, dtype=torch.bfloat16).masked_fill(~PACKED, torch.finfo(torch.bfloat16).min)
    },
    "hidden by hand": {"attn_mask": some(40, 40, seed=8).masked_fill(~PACKED, -1e4)},
    "hidden by another hand": {"attn_mask": torch.zeros(40, 40, dtype=torch.bfloat16).masked_fill(~WINDOW, -1e9)},
    "additive": {"attn_mask": some(3, 1, 40, 40, seed=6)},
    "additive per key": {"attn_mask": some(3, 4, 1, 40, seed=7)},
    "ALiBi": {"attn_mask": alibi(4, 40)},
    "scaled": {"is_causal": True, "scale": 0.1},
}


ONLY_STATISTICS = {
    "causal window": {"is_causal": True, "window": 5},
    "window on both sides": {"window": 5},
    "padded window": {"window": 5, "attn_mask": PADDING[:, None, None, :]},
    "soft-capped": {"is_causal": True, "softcap": 2.0},
    "soft-capped with window and bias": {"window": 9, "softcap": 2.0, "attn_mask": alibi(4, 40)},
    "sinks": {"is_causal": True, "sinks": torch.tensor([-1.0, 0.0, 2.0, 9.0])},
    "sinks, padded": {"attn_mask": PADDING[:, None, None, :], "sinks": torch.tensor([-1.0, 0.0, 2.0, 9.0])},
    "sinks, soft-capped": {"softcap": 2.0, "sinks": torch.tensor([-1.0, 0.0, 2.0, 9.0])},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_entropy_agrees_with_the_materialised_softmax(case, key_heads, tolerance):
    settings = CASES[case]
    q, k = some(3, 4, 40, 16, spread=2.0), some(3, key_heads, 40, 16, seed=1, spread=2.0)
    weights = materialised(q, k, **settings)
    expected = entropy_of(weights)
    found = attention_entropy(q, k, **settings)
    assert found.shape == (3, 4, 40)
    assert (found - expected).abs().max() <= tolerance("attention.entropy")
    num_visible = (weights > 0).sum(-1)
    normalized = attention_entropy(q, k, **settings, normalized=True)
    assert (normalized * num_visible.double().clamp_min(1).log() - expected).abs().max() <= tolerance(
        "attention.entropy"
    )
    on_first = (weights * first_keys(weights > 0)).sum(-1)
    assert (first_token_share(q, k, **settings) - on_first).abs().max() <= tolerance("attention.share")
    wanted = some(3, 40, seed=9) > 0
    share = (weights * wanted[:, None, None]).sum(-1)
    assert (key_share(q, k, wanted, **settings) - share).abs().max() <= tolerance("attention.share")
    census = census_of_keys(q, k, **{name: value for name, value in settings.items() if name != "scale"})
    assert torch.equal(census.num_visible.expand(3, 4, 40), num_visible)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("case", CASES | ONLY_STATISTICS)
def test_statistics_agree_with_the_materialised_softmax(case, key_heads, dtype, tolerance):
    settings = (CASES | ONLY_STATISTICS)[case]
    q, k = some(3, 4, 40, 16, spread=2.0).to(dtype), some(3, key_heads, 40, 16, seed=1, spread=2.0).to(dtype)
    found = attention_statistics(q, k, share_window=4, **settings)
    assert {field.dtype for field in found} == {torch.float64 if dtype == torch.float64 else torch.float32}
    assert_agree(found, expected_statistics(q, k, share_window=4, **settings), tolerance)


@pytest.mark.parametrize(("num_queries", "num_keys"), [(1, 1), (5, 300), (300, 5), (1100, 1100)])
@pytest.mark.parametrize("settings", [{}, {"is_causal": True}, {"window": 70}, {"softcap": 5.0, "is_causal": True}])
def test_statistics_agree_at_every_size(settings, num_queries, num_keys, tolerance):
    q, k = some(1, 2, num_queries, 8), some(1, 2, num_keys, 8, seed=1)
    found = attention_statistics(q, k, share_window=33, **settings)
    assert_agree(found, expected_statistics(q, k, share_window=33, **settings), tolerance)


def test_statistics_agree_for_masks_longer_than_one_block(tolerance):
    """Two documents and a padded third, longer than one block of queries."""
    lengths = (500, 200, 400)
    packed = torch.block_diag(*(torch.ones(n, n) * (n != 400) for n in lengths)).bool().tril()
    q, k = some(1, 2, 1100, 8), some(1, 1, 1100, 8, seed=1)
    found = attention_statistics(q, k, attn_mask=packed, share_window=33)
    assert_agree(found, expected_statistics(q, k, attn_mask=packed, share_window=33), tolerance)
    assert torch.equal(attention_entropy(q, k, attn_mask=packed)[..., 700:], torch.zeros(1, 2, 400))


def test_entropy_without_an_overwhelming_sink_stays_accurate(tolerance):
    """The first key has a share of 1 − 1e-12, which is 1 in float32: the closed form from H and p₀ would give 0/0."""
    q, k = some(1, 1, 30, 16), some(1, 1, 30, 16, seed=1)
    q[..., 0], k[..., 0] = 4.0, 0.0
    k[:, :, 0, 0] = 35.0
    found = attention_statistics(q, k, is_causal=True)
    expected = expected_statistics(q, k, is_causal=True, share_window=1)
    assert found.first_token_share[..., 1:].max() == 1
    assert expected.entropy_without_first_nats[0, 0, 5:].min() > 0.1
    assert_agree(found._replace(window_share=expected.window_share), expected, tolerance)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_sequence_has_the_same_statistics_alone_padded_and_packed(causal, dtype, tolerance):
    q, k = some(1, 2, 40, 8), some(1, 1, 40, 8, seed=1)
    for start, stop in ((12, 40), (0, 12), (12, 30)):
        inside = (torch.arange(40) >= start) & (torch.arange(40) < stop)
        alone = attention_statistics(q[:, :, start:stop], k[:, :, start:stop], is_causal=causal, share_window=3)
        padding = inside.expand(40, 40)
        packed = inside[:, None] == inside
        for mask in (padding, packed):
            mask = mask & torch.ones(40, 40).bool().tril() if causal else mask
            mask = mask if dtype == torch.bool else torch.zeros(40, 40).masked_fill(~mask, -math.inf)
            found = attention_statistics(q, k, attn_mask=mask, share_window=3)
            for name, one, other in zip(alone._fields, alone, found, strict=True):
                assert (one - other[:, :, start:stop]).abs().max() <= tolerance("attention.entropy"), name


def test_the_first_key_of_a_sliding_window_is_not_the_first_of_the_sequence():
    q, k = some(1, 1, 40, 8), some(1, 1, 40, 8, seed=1)
    share = first_token_share(q, k, attn_mask=WINDOW)
    assert (share[..., 5:] == 0).all()
    assert (share[..., :5] > 0).all()
    packed = first_token_share(q, k, attn_mask=PACKED.triu(-4))
    assert packed[0, 0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]


def test_alibi_hides_no_key_at_any_length():
    """Over 16,384 tokens its steepest bias falls to −11,585, below numbers such as −1e4 that hide keys elsewhere."""
    q, k = torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 16384, 4)
    slopes = torch.tensor([2**-0.5, 2**-8])[:, None, None]
    bias = (-slopes * torch.arange(16384).flip(0))[None]
    assert census_of_keys(q, k, attn_mask=bias).num_visible.unique().tolist() == [16384]
    for hidden in (-1e9, torch.finfo(torch.float32).min, -math.inf):
        bias[..., 100:200] = hidden
        assert census_of_keys(q, k, attn_mask=bias).num_visible.unique().tolist() == [16284]


@pytest.mark.parametrize("what", [1e6, 1e10, 3e38, math.inf, math.nan])
def test_the_content_of_hidden_keys_has_no_influence(what, tolerance):
    q, k = some(1, 2, 64, 16), some(1, 1, 64, 16, seed=1)
    broken = k.clone()
    broken[:, :, 50:] = what
    hidden = torch.arange(64) < 50
    for mask in (hidden, hidden.expand(64, 64), torch.zeros(64).masked_fill(~hidden, -1e9)):
        alone = attention_statistics(q, k[:, :, :50], share_window=64)
        found = attention_statistics(q, broken, attn_mask=mask, share_window=64)
        for name, one, other in zip(alone._fields, alone, found, strict=True):
            assert (one - other).abs().max() <= tolerance("attention.entropy"), name
    causal = attention_entropy(q[:, :, :50], broken, is_causal=True)
    whole = attention_entropy(q[:, :, :50], k[:, :, :50], is_causal=True)
    assert (causal - whole).abs().max() <= tolerance("attention.entropy")


@pytest.mark.parametrize("spread", [3.0, 5.0, 7.0, 10.0])
def test_entropy_is_right_next_to_a_first_key_that_takes_a_moderate_share(spread, tolerance):
    q, k = some(1, 6, 1024, 64, spread=spread**0.5), some(1, 3, 1024, 64, seed=1, spread=spread**0.5)
    k[:, :, 0] *= 100
    exact = attention_entropy(q.double(), k.double(), is_causal=True)
    assert (attention_entropy(q, k, is_causal=True) - exact).abs().max() <= tolerance("attention.entropy")


@pytest.mark.parametrize("spread", [3.0, 5.0, 20.0, 300.0])
@pytest.mark.parametrize("sink", [1.0, 1000.0])
@pytest.mark.parametrize(
    "settings",
    [
        {"is_causal": True},
        {"attn_mask": torch.ones(300, 300).bool().tril()},
        {"attn_mask": PACKED.repeat_interleave(8, 0).repeat_interleave(8, 1)[:300, :300]},
        {
            "attn_mask": 20.0 * torch.arange(300)
            + torch.zeros(300, 300).masked_fill(torch.ones(300, 300).triu(1) > 0, -1e9)
        },
    ],
    ids=["causal", "mask", "packed", "bias"],
)
def test_statistics_are_accurate_for_large_scores(spread, sink, settings, tolerance):
    """In float32, log-sum-exp and mean score cancel: errors of 1e-4 nats at a spread of 50, and of 1e-3 with a sink."""
    q, k = some(2, 2, 300, 64, spread=spread), some(2, 1, 300, 64, seed=1)
    k[:, :, 0] *= sink
    found = attention_statistics(q, k, share_window=9, **settings)
    assert_agree(found, expected_statistics(q, k, share_window=9, **settings), tolerance)
    entropy = attention_entropy(q, k, **settings)
    assert (entropy - found.entropy_nats).abs().max() <= tolerance("attention.entropy")


@pytest.mark.parametrize("settings", [{}, {"is_causal": True}, {"attn_mask": PACKED}, {"softcap": 30.0}])
def test_products_that_overflow_float32_are_finite(settings):
    """Their digits are lost in float64 too, except those of soft-capped scores."""
    q, k = some(1, 2, 40, 16, spread=1e19), some(1, 1, 40, 16, seed=1, spread=1e19)
    found = attention_statistics(q, k, share_window=3, **settings)
    assert all(field.isfinite().all() for field in found._replace(max_logit=torch.zeros(1)))
    assert not found.max_logit.isnan().any()  # too large for float32
    assert found.entropy_normalized.min() >= 0
    assert found.entropy_normalized.max() <= 1


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_statistics_are_accurate_for_scores_up_to_1e9(size, tolerance):
    q, k = some(1, 2, 40, 16, spread=size), some(1, 1, 40, 16, seed=1, spread=size)
    found = attention_statistics(q, k, is_causal=True, share_window=3)
    assert_agree(found, expected_statistics(q, k, is_causal=True, share_window=3), tolerance)


@pytest.mark.parametrize("settings", [{}, {"is_causal": True}, {"attn_mask": PACKED}, {"softcap": 5.0}])
def test_a_nan_query_gives_nan(settings):
    q, k = some(1, 2, 40, 8), some(1, 2, 40, 8, seed=1)
    q[0, 1, 30, 2] = math.nan
    found = [*attention_statistics(q, k, share_window=40, **settings)]
    if "softcap" not in settings:
        found += [attention_entropy(q, k, **settings), first_token_share(q, k, **settings)]
    for field in found:
        assert field.isnan().nonzero().tolist() == [[0, 1, 30]]


@pytest.mark.parametrize("sizes", [(30, 30), (12, 30), (30, 12)])
def test_a_causal_bias_agrees_with_its_mask(sizes, tolerance):
    """Its tensor holds no numbers; read as a mask, it gave errors of a nat."""
    q, k = some(1, 2, sizes[0], 8), some(1, 1, sizes[1], 8, seed=1)
    for variant, lead in ((CausalVariant.UPPER_LEFT, 0), (CausalVariant.LOWER_RIGHT, sizes[1] - sizes[0])):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch returns NaN for queries that see no key
            bias = CausalBias(variant, *sizes)
        found = attention_statistics(q, k, attn_mask=bias)[:5]
        expected = attention_statistics(q, k, attn_mask=torch.ones(sizes).bool().tril(lead))[:5]
        for name, one, other in zip(AttentionStatistics._fields, found, expected, strict=False):
            assert (one - other).abs().max() <= tolerance("attention.entropy"), name


def test_rotated_queries_and_keys_give_the_entropy_of_rotary_attention(tolerance):
    q, k = some(1, 2, 50, 16), some(1, 2, 50, 16, seed=1)
    angles = torch.arange(50).double()[:, None] * 10.0 ** -torch.arange(8).double()

    def turned(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.double().unflatten(-1, (8, 2)))
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).float()

    # Scores by definition: Re(q k* e^{i(position of q − position of k)θ}) for each pair, without prior rotation.
    pairs = [torch.view_as_complex(x.double().unflatten(-1, (8, 2))) for x in (q, k)]
    relative = torch.polar(torch.ones(50, 50, 8).double(), angles[:, None] - angles)
    scores = torch.einsum("bhie,bhje,ije->bhij", pairs[0], pairs[1].conj(), relative).real / 4
    scores = scores.masked_fill(~torch.ones(50, 50, dtype=torch.bool).tril(), -math.inf)
    found = attention_entropy(turned(q), turned(k), is_causal=True)
    assert (found - entropy_of(softmax(scores))).abs().max() <= tolerance("attention.entropy")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("case", CASES | ONLY_STATISTICS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_agrees_on_an_accelerator(case, dtype, tolerance):
    settings = (CASES | ONLY_STATISTICS)[case]
    q, k = some(3, 4, 40, 16).to(dtype), some(3, 2, 40, 16, seed=1).to(dtype)
    there = {name: value.cuda() if isinstance(value, Tensor) else value for name, value in settings.items()}
    found = attention_statistics(q.cuda(), k.cuda(), share_window=4, **there)
    assert found.entropy_nats.is_cuda
    assert_agree(found, expected_statistics(q, k, share_window=4, **settings), tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("is_causal", [False, True])
def test_tf32_is_not_used_on_an_accelerator(is_causal, tolerance):
    q, k = some(2, 4, 300, 64), some(2, 2, 300, 64, seed=1)
    torch.set_float32_matmul_precision("high")
    try:
        found = attention_statistics(q.cuda(), k.cuda(), is_causal=is_causal, softcap=30.0, share_window=9)
    finally:
        torch.set_float32_matmul_precision("highest")
    expected = expected_statistics(q, k, is_causal=is_causal, softcap=30.0, share_window=9)
    assert_agree(found, expected, tolerance)


def test_entropy_is_accurate_for_keys_with_a_large_common_offset(tolerance):
    """Keys of real models share a large offset, which shifts all scores of a query and must not change the entropy."""
    q, k = some(1, 2, 60, 16), (some(1, 2, 60, 16, seed=1) + 1000 * some(1, 2, 1, 16, seed=2)).round()
    expected = entropy_of(materialised(q, k, is_causal=True))
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
    found = attention_statistics(q, k, attn_mask=given, share_window=2)
    assert all((field[:, :, 3] == 0).all() for name, field in found._asdict().items() if name != "max_logit")
    assert (found.max_logit[:, :, 3] == -math.inf).all()


def test_uniform_attention_has_normalised_entropy_one(tolerance):
    q, k = torch.zeros(1, 1, 50, 8), some(1, 1, 50, 8)
    entropy = attention_entropy(q, k, is_causal=True, normalized=True)
    assert entropy[0, 0, 0] == 0
    assert (entropy[0, 0, 1:] - 1).abs().max() <= tolerance("attention.entropy")


class Largest(TorchDispatchMode):
    """Records the number of bytes of the largest tensor that an operation allocates."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.num_bytes = 0
        self._given = {tensor.untyped_storage().data_ptr() for tensor in given}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor) and part.untyped_storage().data_ptr() not in self._given:
                self.num_bytes = max(self.num_bytes, part.untyped_storage().nbytes())
        return result


LONG = 4096


@pytest.mark.parametrize(
    "settings",
    [
        {"is_causal": True},
        {"attn_mask": torch.zeros(1, 1, 1, LONG)},
        {"attn_mask": torch.ones(1, 1, LONG, LONG, dtype=torch.bool).tril()},
        {"attn_mask": torch.ones(1, 1, LONG, LONG, dtype=torch.float16)},
        {"is_causal": True, "softcap": 5.0},
        {"is_causal": True, "window": 1000},
        {"is_causal": True, "sinks": torch.zeros(1)},
    ],
    ids=["causal", "bias per key", "mask", "bias", "soft-capped", "window", "sinks"],
)
def test_no_matrix_of_queries_by_keys_is_built(settings):
    q, k = some(1, 1, LONG, 8), some(1, 1, LONG, 8, seed=1)
    with Largest(*(value for value in settings.values() if isinstance(value, Tensor))) as largest:
        attention_statistics(q, k, **settings, share_window=10)
    assert 0 < largest.num_bytes <= LONG * LONG * 4 / 8


@pytest.fixture
def training_precision(request):
    """Compute float32 products in bf16, by each of torch's two settings."""
    backend = torch.backends.mkldnn.matmul
    if request.param == "overall":
        torch.set_float32_matmul_precision("medium")
    else:
        backend.fp32_precision = "bf16"
    yield backend
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("training_precision", ["overall", "per backend"], indirect=True)
def test_autocast_and_reduced_precision_change_no_bit(training_precision, tolerance):
    """A training step may use autocast, bf16 products for float32, and gradient mode."""
    q, k = some(1, 2, 64, 16), some(1, 2, 64, 16, seed=1)
    for settings in ({}, {"softcap": 5.0}):
        expected = expected_statistics(q, k, is_causal=True, share_window=3, **settings)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = attention_statistics(q.requires_grad_(), k, is_causal=True, share_window=3, **settings)
        assert_agree(found, AttentionStatistics(*(field.detach() for field in expected)), tolerance)
    assert training_precision.fp32_precision == "bf16"


def test_measuring_does_not_change_gradients():
    q, k = some(1, 2, 20, 8).requires_grad_(), some(1, 2, 20, 8, seed=1)
    loss = torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True).square().sum()
    (plain,) = torch.autograd.grad(loss, q)
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True)
    assert not any(field.requires_grad for field in attention_statistics(q, k, is_causal=True, share_window=2))
    (measured,) = torch.autograd.grad(attended.square().sum(), q)
    assert torch.equal(plain, measured)


def test_gradients_are_not_recorded():
    q = some(1, 1, 4, 8).requires_grad_()
    assert not attention_entropy(q, q).requires_grad


class Own(Tensor):
    """A tensor subclass that is not one of torch's masks."""


GOOD = some(2, 4, 6, 8)


@pytest.mark.parametrize(
    ("parameter", "call"),
    [
        ("k", lambda: attention_entropy(GOOD, GOOD[:, :3])),
        ("k", lambda: attention_entropy(GOOD, GOOD[..., :4])),
        ("q", lambda: attention_entropy(GOOD[0], GOOD[0])),
        ("q", lambda: attention_entropy(GOOD[:, :, :0], GOOD)),
        ("k", lambda: attention_entropy(GOOD, GOOD[:, :, :0])),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, is_causal=True, attn_mask=torch.ones(6, 6).bool())),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, attn_mask=torch.ones(5, 6).bool())),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, attn_mask=torch.ones(6, 6).long())),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, attn_mask=causal_lower_right(5, 6))),
        ("attn_mask", lambda: attention_entropy(GOOD, GOOD, attn_mask=torch.zeros(6, 6).as_subclass(Own))),
        ("window", lambda: attention_statistics(GOOD, GOOD, window=0)),
        ("window", lambda: attention_statistics(GOOD, GOOD, window=2.5)),
        ("softcap", lambda: attention_statistics(GOOD, GOOD, softcap=-1.0)),
        ("share_window", lambda: attention_statistics(GOOD, GOOD, share_window=0.5)),
        ("share_window", lambda: attention_statistics(GOOD, GOOD, share_window=True)),
        ("share_window", lambda: attention_statistics(GOOD, GOOD, share_window=0)),
        ("sinks", lambda: attention_statistics(GOOD, GOOD, sinks=torch.zeros(3))),
        ("keys", lambda: key_share(GOOD, GOOD, torch.ones(2, 5).bool())),
        ("keys", lambda: key_share(GOOD, GOOD, torch.ones(2, 6))),
    ],
)
def test_invalid_arguments_are_refused(parameter, call):
    with pytest.raises(InvalidArgument, match=f"`{parameter}`"):
        call()


@pytest.mark.parametrize("normalized", [None, 1, "yes", torch.zeros(0)], ids=["none", "1", "text", "empty"])
def test_a_flag_that_is_none_is_refused(normalized):
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(InvalidArgument, match="`normalized`"):
        attention_entropy(q, q, normalized=normalized)
