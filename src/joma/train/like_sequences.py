"""What users like in the order of time, as a text whose words are the items."""

from __future__ import annotations

import numpy as np
import torch

from joma.tables.ratings import Ratings
from joma.train.text.vocabulary import END, Tokens, digest_of_ids

HELD_OUT_SHARE = 0.2
"""The share of the users whose likes no network is trained on."""


def like_tokens(ratings: Ratings, seed: int = 0) -> Tokens:
    """Return the likes of all users, one after the other, each user's in the order of time and closed by ``<eos>``.

    Args:
        ratings: with times.
        seed: of the order of the users, and of which of them are held out.

    Returns:
        tokens whose id 0 is ``<eos>``, and whose id i + 1 is item i.

    Raises:
        BadInput: the ratings have no times.
    """
    sequences = [np.append(items + 1, 0) for items in ratings.like_sequences() if len(items)]
    order = np.random.default_rng(seed).permutation(len(sequences))
    num_held_out = int(HELD_OUT_SHARE * len(sequences))
    held_out, train = (
        torch.from_numpy(np.concatenate([sequences[place] for place in part]))
        for part in (order[:num_held_out], order[num_held_out:])
    )
    vocabulary = (END, *(f"{item} {title}" for item, title in enumerate(ratings.titles)))
    return Tokens(
        f"likes_{seed}",
        f"likes of {len(sequences):,} users, {num_held_out:,} of them held out, for {ratings.num_items:,} items",
        train,
        held_out,
        vocabulary,
        digest_of_ids(train, held_out, vocabulary),
        share_unknown=0.0,
    )
