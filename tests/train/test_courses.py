"""Metrics of runs are read per run, averaged over heads, in the order of their steps."""

import numpy as np
import pytest
from tiny import tiny_recipe, tiny_tokens

from joma.train.courses import course_of, probe_groups
from joma.train.run import Run
from joma.train.training import train

ENTROPY = "attention_entropy_nats"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [train(tiny_recipe(num_steps=20, seed=seed), tiny_tokens(), folder / str(seed)) for seed in (0, 1)]


def test_course_has_a_row_for_each_run_and_means_over_heads(runs):
    found = course_of(runs, ENTROPY)
    assert found.steps == tuple(runs[0].recipe.probe_steps())
    for run, row in zip(runs, found.values, strict=True):
        last = [
            entry.value
            for entry in run.measurements()
            if (entry.metric, entry.step, entry.group) == (ENTROPY, 20, None)
        ]
        assert len(last) == run.recipe.decoder.num_heads == 2
        assert row[-1] == np.mean(last)


def test_a_metric_of_the_whole_network_has_no_layer(runs):
    assert course_of(runs, "val_loss_nats", None).values.shape == (2, len(runs[0].recipe.probe_steps()))


def test_groups_of_positions_are_in_ascending_order(runs):
    found = probe_groups(runs[0], ENTROPY, "positions")
    first = [int(name.split("_")[1]) for name in found]
    assert first == sorted(first)
    whole, part = course_of(runs, ENTROPY), course_of(runs, ENTROPY, group=found[0])
    assert part.values.shape == whole.values.shape
    assert (part.values != whole.values).any()


def test_a_run_that_is_not_finished_limits_the_course_to_its_steps(runs, tmp_path):
    short = Run(tmp_path, runs[1].recipe)
    lines = runs[1].journal_path.read_bytes().splitlines(keepends=True)
    short.journal_path.write_bytes(b"".join(lines[:3]))
    whole, found = course_of(runs, ENTROPY), course_of([runs[0], short], ENTROPY)
    assert found.steps == whole.steps[:3]
    assert np.array_equal(found.values, whole.values[:, :3])
