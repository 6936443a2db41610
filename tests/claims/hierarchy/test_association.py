"""Attention logits of pairs of tokens in decoders and flows, and their rank correlations."""

import numpy as np
import pytest
import torch

from joma.claims.hierarchy.association import (
    Movement,
    contexts,
    in_random_places,
    movement_in_flow,
    pair_logits,
    rank_correlation,
)
from joma.problem.tree import balanced_tree
from joma.theory.hierarchy import token_cooccurrence
from joma.train.decoder import Decoder, DecoderConfig

LAW = balanced_tree((2, 2, 2), 0.8, jitter=0.15, seed=3)


def test_rank_correlation_excludes_the_query_itself():
    table = np.random.default_rng(0).normal(size=(6, 6))
    assert rank_correlation(np.exp(table), table) == pytest.approx(1)
    assert rank_correlation(-table, table) == pytest.approx(-1)
    assert rank_correlation(table + np.diag(np.full(6, 100.0)), table) == pytest.approx(1)


def test_partial_correlation_removes_a_common_cause(tolerance):
    rng = np.random.default_rng(0)
    cause, first, second = rng.normal(size=(3, 200, 200))
    assert rank_correlation(cause + first, cause + second) > 0.4
    assert abs(rank_correlation(cause + first, cause + second, cause)) < tolerance("association.partial")
    assert rank_correlation(cause + first, first + 0.1 * second, cause) > 0.9


def test_permuting_leaves_keeps_the_values_of_all_pairs():
    table = np.arange(36.0).reshape(6, 6)
    moved = in_random_places(table, 1)
    assert sorted(moved.flatten()) == sorted(table.flatten())
    assert sorted(moved.diagonal()) == sorted(table.diagonal())
    assert (moved != table).any()


def test_half_way_is_the_first_step_with_half_of_the_decrease_of_the_loss():
    assert Movement(np.array([1.0, 0.8, 0.55, 0.2, 0.1, 0.3]), np.zeros((6, 2, 2))).half_way == 2


def test_pair_logits_equal_those_of_real_sequences(tolerance):
    config = DecoderConfig(LAW.vocabulary_size, width=16, num_heads=2, hidden=8, num_layers=2, num_outputs=2)
    decoder = Decoder(config, seed=1).eval()
    sequence, seen = torch.tensor([[8, 8, 3, 1, 5, 0, 2, 7]]), []
    decoder(sequence, lambda layer, q, k: seen.append((layer, q, k)))
    (layer, q, k), *_ = seen
    assert layer == 0
    for place in (2, 5):
        places = torch.nn.functional.one_hot(torch.tensor(place), 7).double()
        expected = (q[0, :, -1] * k[0, :, place]).sum(-1).mean() / 8**0.5
        found = pair_logits(decoder, LAW.num_tokens, places)[7, sequence[0, place]]
        assert found == pytest.approx(expected.item(), abs=tolerance("decoder.parity"))


def test_contexts_are_samples_that_contain_the_query(tolerance):
    context, labels = contexts(LAW, 4000, torch.Generator().manual_seed(0))
    assert context.shape == (8, 1, 4000, 8)
    assert labels.shape == (8, 1, 4000)
    shares, expected = context.mean(-2).squeeze(1), token_cooccurrence(LAW).T
    assert shares.diagonal().tolist() == [0.0] * 8
    others = ~torch.eye(8, dtype=torch.bool)
    assert shares[others].tolist() == pytest.approx(expected[others].tolist(), abs=tolerance("association.share"))


def test_a_constant_gradient_associates_tokens_in_the_order_of_their_shares():
    seen = movement_in_flow(LAW, 300, 5, constant=True)
    context, _ = contexts(LAW, 300, torch.Generator().manual_seed(5))
    assert rank_correlation(seen.moved[-1], context.mean(-2).squeeze(1).numpy()) > 0.99


def test_flow_decreases_the_loss():
    losses = movement_in_flow(LAW, 300, 5, constant=False).losses
    assert losses[-1] < 0.7 * losses[0]
