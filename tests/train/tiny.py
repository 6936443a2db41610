"""A language and a recipe so small that a run takes a second: for tests of what surrounds the numbers."""

import torch

from joma.train.decoder import DecoderConfig
from joma.train.recipes import Recipe
from joma.train.vocabulary import Tokens

NUM_WORDS = 20


def tiny_tokens(length: int = 3000) -> Tokens:
    """Each word is followed by the one seven further on, four times out of five; the digest names the length."""
    generator = torch.Generator().manual_seed(0)
    jumps = torch.where(
        torch.rand(length, generator=generator) < 0.8, 7, torch.randint(NUM_WORDS, (length,), generator=generator)
    )
    ids = jumps.cumsum(0) % NUM_WORDS
    train, held_out = ids[: length * 2 // 3], ids[length * 2 // 3 :]
    words = tuple(f"word{n}" for n in range(NUM_WORDS))
    return Tokens("tiny", "a tiny language", train, held_out, words, f"tiny-{length}", 0.0)


def tiny_recipe(**changes) -> Recipe:
    decoder = DecoderConfig(NUM_WORDS, width=16, num_heads=2, feed_forward=16)
    settings = {
        "num_steps": 120,
        "learning_rate": 3e-3,
        "batch_size": 4,
        "length": 10,
        "probe_every": 7,
        "early_probe_every": 3,
        "early_until": 20,
        "num_probe_sequences": 8,
        "checkpoint_every": 25,
    }
    return Recipe("tiny", **{"decoder": decoder, **settings, **changes})
