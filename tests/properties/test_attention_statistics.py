import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.measure.attention.statistics import attention_statistics, census_of_keys
from tolerances import TOLERANCES

ENTROPY = TOLERANCES["attention.entropy"].bound
SQUARES = TOLERANCES["attention.sum_of_squares"].bound
SHARE = TOLERANCES["attention.share"].bound

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 40)
windows = st.none() | st.integers(1, 50)
softcaps = st.none() | st.floats(0.5, 50)


def drawn(seed: int, *shape: int, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, sizes, st.booleans(), windows, softcaps, st.floats(0.01, 3))
def test_statistics_respect_what_holds_for_any_distribution(
    seed, num_queries, num_keys, is_causal, window, softcap, spread
):
    q, k = drawn(seed, 1, 2, num_queries, 8, spread=spread), drawn(seed + 1, 1, 1, num_keys, 8)
    found = attention_statistics(q, k, is_causal=is_causal, window=window, softcap=softcap, share_window=num_keys + 40)
    sees = found.sum_of_squares > 0
    assert all(field[sees].isfinite().all() for field in found)
    assert (found.max_logit[~sees] == -torch.inf).all()
    # Jensen: the effective number of keys is at most the exponential of the entropy.
    assert (found.sum_of_squares >= (-found.entropy_nats).exp() - SQUARES)[sees].all()
    assert (found.sum_of_squares <= 1).all()
    num_visible = census_of_keys(q, k, is_causal=is_causal).num_visible.expand(found.entropy_nats.shape)
    assert (found.sum_of_squares >= 1 / num_visible - SQUARES)[sees].all()
    assert (found.entropy_nats >= 0).all()
    assert ((found.entropy_normalized >= 0) & (found.entropy_normalized <= 1 + ENTROPY)).all()
    # All keys lie in a window wider than the text.
    assert ((found.window_share - 1).abs() <= SHARE)[sees].all()


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 40), st.booleans())
def test_a_sink_nobody_hears_changes_nothing_and_a_loud_one_takes_all(seed, length, is_causal):
    q, k = drawn(seed, 1, 2, length, 8), drawn(seed + 1, 1, 2, length, 8)
    plain = attention_statistics(q, k, is_causal=is_causal, share_window=3)
    silent = attention_statistics(q, k, is_causal=is_causal, share_window=3, sinks=torch.full((2,), -200.0))
    for name in ("entropy_nats", "sum_of_squares", "first_token_share", "window_share"):
        assert (getattr(silent, name) - getattr(plain, name)).abs().max() <= ENTROPY
    loud = attention_statistics(q, k, is_causal=is_causal, share_window=3, sinks=torch.full((2,), 200.0))
    assert loud.first_token_share.max() == loud.window_share.max() == 0
    assert (loud.sum_of_squares - 1).abs().max() <= SQUARES
    assert loud.entropy_nats.max() <= ENTROPY


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 40), st.integers(2, 20))  # of width 1, a mask says that every token stands alone
def test_a_mask_says_what_causality_and_a_window_say(seed, length, window):
    q, k = drawn(seed, 2, 4, length, 8), drawn(seed + 1, 2, 2, length, 8)
    band = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    by_rule = attention_statistics(q, k, is_causal=True, window=window, share_window=2)
    by_mask = attention_statistics(q, k, attn_mask=band, share_window=2)
    by_bias = attention_statistics(q, k, attn_mask=torch.where(band, 0.0, -torch.inf), share_window=2)
    for other in (by_mask, by_bias):
        for name, one, two in zip(by_rule._fields, by_rule, other, strict=True):
            assert (one - two).abs().max() <= ENTROPY, name
