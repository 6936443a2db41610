"""Counts of co-occurrence agree with exact shares, and their standard errors with the spread over repetitions."""

import itertools

import numpy as np
import torch

from joma.problem.combinatorial import random_hierarchy
from joma.problem.tree import balanced_tree
from joma.simulate.cooccurrence import cooccurrences, presence_in_draws
from tolerances import TOLERANCES


def test_the_standard_error_is_the_spread_over_repetitions():
    tree = balanced_tree((2, 2, 2), 0.7)
    draws = [cooccurrences(tree, [0], 400, seed) for seed in range(200)]
    for rows in zip(*draws, strict=True):
        spread = np.std([row.simulated for row in rows])
        claimed = np.mean([row.standard_error for row in rows])
        assert abs(claimed / spread - 1) < TOLERANCES["theorem5.spread"].bound


def test_random_sets_are_counted_in_samples_only():
    law = random_hierarchy(4, (4, 5), num_tokens=10, show_probability=0.5)
    rows = cooccurrences(law, [None], 500, 0)
    assert all(row.exact is row.closed is None for row in rows)
    assert any(row.simulated is not None for row in rows)


def test_draws_equal_those_of_the_law_batch_by_batch():
    tree = balanced_tree((2, 2), 0.7)
    there = presence_in_draws(tree, 1, 50, torch.Generator().manual_seed(0), batch=20)
    generator = torch.Generator().manual_seed(0)
    parts = [tree.sample(size, generator, torch.full((size,), 1)).tokens for size in (20, 20, 10)]
    for present, sequence in zip(there, itertools.chain(*(part.tolist() for part in parts)), strict=True):
        assert set(present.nonzero().flatten().tolist()) == set(sequence) - {tree.padding}


def test_progress_counts_the_samples_of_all_labels():
    seen = []
    cooccurrences(balanced_tree((2, 2), 0.7), [0, None], 30, 0, lambda *progress: seen.append(progress))
    assert seen == [("samples", 30, 60), ("samples", 60, 60)]
