"""The networks of the claims on text: their variants, and the step at which they beat word frequencies."""

import math
import random
from itertools import product

import pytest
import torch

from joma.claims.text.networks import (
    STUDIES,
    Variant,
    frequencies_learned,
    study,
    trained,
    unigram_nats,
)
from joma.claims.workspace import Profile, TextChoice, Workspace
from joma.errors import RunFailed
from joma.train.courses import course_of
from joma.train.text.vocabulary import Tokens


def tokens(train, held_out, size):
    words = tuple(f"w{idx}" for idx in range(size))
    return Tokens("test", "test", torch.tensor(train), torch.tensor(held_out), words, "digest", 0.0)


def test_unigram_nats_of_a_uniform_text_is_the_logarithm_of_its_vocabulary(tolerance):
    text = tokens(list(range(8)) * 1000, list(range(8)) * 10, 8)
    assert unigram_nats(text, text.held_out) == pytest.approx(math.log(8), abs=tolerance("unigram.smoothing"))


def test_unigram_nats_is_finite_for_words_that_training_never_showed():
    text = tokens([0, 1] * 50, [2, 2, 2], 3)
    assert math.isfinite(unigram_nats(text, text.held_out))


def test_variants_differ_only_in_the_named_setting():
    sizes = STUDIES[Profile.QUICK]
    full, linear = Variant().recipe(50, sizes, 1), Variant("linear MLP").recipe(50, sizes, 1)
    assert (linear.decoder.activation, full.decoder.activation) == ("identity", "relu")
    assert full.seed == linear.seed
    assert full.name != linear.name
    kinds = product(("in order", "shuffled", "uniform"), ("zero", "unigram"), (None, 1e-2))
    names = {
        Variant(words=kind[0], output_bias=kind[1], learning_rate=kind[2]).recipe(50, sizes, 0).name for kind in kinds
    }
    assert len(names) == 12
    assert Variant(learning_rate=1e-2).recipe(50, sizes, 0).learning_rate == 1e-2


def test_the_number_of_seeds_of_the_workspace_is_used(tmp_path):
    assert study(Workspace(tmp_path, num_seeds=7)).num_seeds == 7
    assert study(Workspace(tmp_path)).num_seeds == STUDIES[Profile.QUICK].num_seeds


@pytest.mark.slow
def test_networks_that_learn_nothing_beyond_frequencies_are_an_error(small_workspace):
    runs = trained(small_workspace, [Variant(num_steps=3)])[0]
    assert course_of(runs, "val_loss_nats", None).values.shape == (2, 2)
    with pytest.raises(RunFailed, match="the network predicts better than word frequencies at no step"):
        frequencies_learned(small_workspace, runs)


@pytest.fixture
def small_workspace(tmp_path):
    path = tmp_path / "text.txt"
    words = random.Random(0).choices(["mat", "cat", "dog", "roof", "sat", "lay", "by", "on"], k=30_000)
    path.write_text(" ".join(words))
    return Workspace(tmp_path / "out", num_seeds=2, text=TextChoice(str(path), 12))
