import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.measure.attention.statistics import attention_entropy, key_share
from tolerances import TOLERANCES

ENTROPY = TOLERANCES["attention.entropy"].bound

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 40)


def drawn(seed: int, *shape: int, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, sizes, st.booleans(), st.floats(0.01, 4))
def test_entropy_lies_between_one_key_and_all_keys_alike(seed, num_queries, num_keys, is_causal, spread):
    q, k = drawn(seed, 1, 2, num_queries, 8, spread=spread), drawn(seed + 1, 1, 2, num_keys, 8)
    entropy = attention_entropy(q, k, is_causal=is_causal)
    most = torch.arange(1, num_queries + 1).clamp(max=num_keys).log() if is_causal else math.log(num_keys)
    assert (entropy >= 0).all()
    assert (entropy <= most + ENTROPY).all()
    normalized = attention_entropy(q, k, is_causal=is_causal, normalized=True)
    assert ((normalized >= 0) & (normalized <= 1 + ENTROPY)).all()


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, st.integers(2, 40))
def test_entropy_knows_no_order_of_keys_and_no_common_offset(seed, num_queries, num_keys):
    q, k = drawn(seed, 1, 2, num_queries, 8), drawn(seed + 1, 1, 2, num_keys, 8)
    order = torch.randperm(num_keys, generator=torch.Generator().manual_seed(seed))
    moved = k[:, :, order] + drawn(seed + 2, 1, 2, 1, 8)
    assert (attention_entropy(q, moved) - attention_entropy(q, k)).abs().max() <= ENTROPY


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes)
def test_shares_of_all_keys_add_up_to_one(seed, num_queries, num_keys):
    q, k = drawn(seed, 2, 1, num_queries, 8), drawn(seed + 1, 2, 1, num_keys, 8)
    some = drawn(seed + 2, 2, num_keys) > 0
    total = key_share(q, k, some, is_causal=True) + key_share(q, k, ~some, is_causal=True)
    assert (total - 1).abs().max() <= ENTROPY
