"""Ablated networks are read from their own first step on, and compared seed by seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_recipe, tiny_tokens

from joma.claims.text.ablations import FULL, Ablation, ablations
from joma.claims.text.networks import unigram_nats
from joma.measure.curves.course import Course
from joma.train.courses import course_of
from joma.train.training import train

ENTROPY = "attention_entropy_nats"
RECIPE = tiny_recipe(num_steps=60, learning_rate=1e-2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Full networks, networks that learn later, with one query, and ones that learn nothing; two seeds each."""
    folder = tmp_path_factory.mktemp("runs")

    def trained(name, **changes):
        recipes = [replace(RECIPE, seed=seed, **changes) for seed in (0, 1)]
        return [train(each, tiny_tokens(), folder / f"{name}-{each.seed}") for each in recipes]

    return {
        FULL: trained("full"),
        "slow": trained("slow", learning_rate=3e-4),
        "one query": trained("query", one_query=True),
        "idle": trained("idle", learning_rate=1e-9),
    }


def first_below(some) -> int:
    losses, text = course_of(some, "val_loss_nats", None), tiny_tokens()
    return losses.steps[int(np.argmax(losses.mean < unigram_nats(text, text.held_out)))]


def test_networks_are_read_from_the_step_on_at_which_they_beat_word_frequencies(runs):
    found = ablations(runs, tiny_tokens())
    assert first_below(runs["slow"]) > first_below(runs[FULL]) > 0
    for name in (FULL, "slow"):
        assert found[name].course.steps[0] == first_below(runs[name])
        assert found[name].full.steps[0] == first_below(runs[FULL])
    assert found["idle"].course.steps[0] == first_below(runs[FULL])  # it never beats them


def test_a_shorter_length_is_the_beginning_of_the_same_runs(runs):
    whole, part = ablations(runs, tiny_tokens())[FULL], ablations(runs, tiny_tokens(), 49)[FULL]
    assert part.course.steps == tuple(step for step in whole.course.steps if step <= 49)
    assert np.array_equal(part.course.values, whole.course.values[:, : len(part.course.steps)])
    assert part.last_loss.values == tuple(course_of(runs[FULL], "val_loss_nats", None).between(49, 49).values[:, 0])


def test_one_query_is_compared_with_the_last_positions_of_the_full_network(runs):
    found = ablations(runs, tiny_tokens())["one query"]
    last = course_of(runs[FULL], ENTROPY, group="positions_8_9").between(found.full.steps[0])
    assert np.array_equal(found.full.values, last.values)


def test_differences_are_taken_seed_by_seed(tolerance):
    steps = tuple(range(21))
    valley = np.abs(np.linspace(-1, 1, 21))
    full, other = Course(steps, np.stack([valley, 2 * valley])), Course(steps, np.stack([valley, valley]))
    found = Ablation(other, full)
    same, half = found.beyond("rise").values
    assert same == pytest.approx(0, abs=tolerance("decoder.parity"))
    assert half == pytest.approx(-found.rises[1])
    assert found.beyond("fall", 0.5).values == pytest.approx([found.falls[0] / 2, 0])
    assert torch.tensor(found.rises).gt(0).all()
