"""A language, a law, pictures and recipes so small that a run takes a second."""

import torch

from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.train.decoder import DecoderConfig
from joma.train.images.parts import Occurrence, sorted_parts
from joma.train.images.pictures import Pictures
from joma.train.recipes import Recipe, hierarchy_recipe, vision_recipe
from joma.train.text.vocabulary import Tokens

NUM_WORDS = 20


def tiny_tokens(length: int = 3000) -> Tokens:
    """Each word is followed by the seventh next one with probability 0.8; the digest contains the length."""
    generator = torch.Generator().manual_seed(0)
    jumps = torch.where(
        torch.rand(length, generator=generator) < 0.8, 7, torch.randint(NUM_WORDS, (length,), generator=generator)
    )
    ids = jumps.cumsum(0) % NUM_WORDS
    train, held_out = ids[: length * 2 // 3], ids[length * 2 // 3 :]
    words = tuple(f"word{n}" for n in range(NUM_WORDS))
    return Tokens("tiny", "a tiny language", train, held_out, words, f"tiny-{length}", 0.0)


def tiny_recipe(**changes) -> Recipe:
    decoder = DecoderConfig(NUM_WORDS, width=16, num_heads=2, hidden=16)
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


def tiny_law(seed: int = 0) -> Combinatorial:
    """Six classes whose tokens are shown at random, so that there are many inputs."""
    return random_hierarchy(
        6, (5, 6), 2, num_tokens=12, length=8, show_probability=0.9, distinct_inputs=True, seed=seed
    )


def tiny_law_recipe(**changes) -> Recipe:
    settings = {
        "num_steps": 60,
        "width": 16,
        "hidden": 24,
        "batch_size": 8,
        "probe_every": 10,
        "early_until": 0,
        "num_probe_sequences": 20,
        "checkpoint_every": 12,
        "snapshot_every": 16,
    }
    return hierarchy_recipe(tiny_law(), **{**settings, **changes})


def tiny_pictures(num: int = 120) -> Pictures:
    """In noise, a bar across or down makes the label; a darker corner has nothing to do with it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (num,), generator=generator)
    corner = torch.rand(num, generator=generator) < 0.5
    pixels = torch.randint(60, (num, 2, 8, 8), generator=generator, dtype=torch.uint8)
    for number, place in enumerate(torch.randint(6, (num,), generator=generator).tolist()):
        picture = pixels[number] if labels[number] == 0 else pixels[number].mT
        picture[:, place] += 195
    pixels[corner, :, 6:, 6:] = 90
    names = ("across", "down")
    occurrences = [
        [Occurrence(names[label], True, 1), *([Occurrence("corner", False, 1)] if dark else [])]
        for label, dark in zip(labels.tolist(), corner.tolist(), strict=True)
    ]
    return Pictures("tiny", "bars", pixels, labels, names, *sorted_parts(occurrences, fewest=20))


def tiny_vision_recipe(**changes) -> Recipe:
    settings = {
        "num_steps": 60,
        "width": 16,
        "num_heads": 2,
        "num_layers": 2,
        "hidden": 16,
        "learning_rate": 5e-3,
        "batch_size": 8,
        "probe_every": 10,
        "early_until": 0,
        "num_probe_sequences": 20,
        "checkpoint_every": 12,
    }
    return vision_recipe(tiny_pictures(), **{**settings, **changes})
