"""Likes of users with a taste: items in groups, groups in pairs, and users who mostly like one group and its pair."""

import numpy as np

GROUPS = np.repeat(np.arange(8), 10)
"""The group of each of 80 items; groups 0 and 1, 2 and 3, ... are pairs."""


def planted_likes(num_users=200, seed=0):
    """Return likes: probability .5 in a user's group, .2 in the other group of its pair, .03 elsewhere."""
    generator = np.random.default_rng(seed)
    taste = generator.integers(8, size=(num_users, 1))
    rates = np.where(taste == GROUPS, 0.5, np.where(taste // 2 == GROUPS // 2, 0.2, 0.03))
    return (generator.random(rates.shape) < rates).astype(float)
