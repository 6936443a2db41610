from dataclasses import replace

import pytest
import torch
from tiny import tiny_recipe, tiny_tokens

from joma.errors import BadInput, RunFailed
from joma.train.decoder import DecoderConfig
from joma.train.stacking import can_be_stacked, train_stack
from joma.train.training import train


def recipes(**changes):
    """Return recipes with two learning rates and two seeds."""
    base = tiny_recipe(num_steps=100, probe_every=25, early_until=0, **changes)
    pairs = [(seed, rate) for seed in (0, 1) for rate in (1e-3, 1e-2)]
    return [replace(base, name=f"{rate}_{seed}", seed=seed, learning_rate=rate) for seed, rate in pairs]


def folders(wanted, folder):
    return [folder / recipe.name for recipe in wanted]


@pytest.fixture
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


MOVED_BY_BIASES_OF_KEYS = {"attention_max_logit"}
"""Metrics that change if all scores of a query move together, which changes neither attention nor loss: rounding moves
the biases of keys.
"""

SMALL = DecoderConfig(20, width=16, num_heads=2, hidden=16)
VARIANTS = [
    {"decoder": SMALL},
    {"decoder": replace(SMALL, num_layers=2, dropout=0.0)},
    {"decoder": DecoderConfig(20, width=16, num_heads=2, mlp=False)},
    {"decoder": replace(SMALL, layer_norm=False, train_value_path=False)},
    {"decoder": replace(SMALL, num_layers=2), "one_query": True},
    {"decoder": replace(SMALL, residual="none", train_output_path=False), "optimizer": "sgd"},
]


@pytest.mark.parametrize("change", VARIANTS)
def test_each_member_equals_its_own_run_over_100_steps_in_float64(change, tmp_path, in_float64, tolerance):
    wanted, tokens = recipes(**change), tiny_tokens()
    alone = [train(recipe, tokens, tmp_path / "alone" / recipe.name) for recipe in wanted]
    stacked = train_stack(wanted, tokens, folders(wanted, tmp_path / "stack"), batched=True)
    for one, other in zip(alone, stacked, strict=True):
        pairs = zip(one.decoder().parameters(), other.decoder().parameters(), strict=True)
        assert max(float((mine - theirs).abs().max().detach()) for mine, theirs in pairs) <= tolerance("stack.member")
    first, second = (run.decoder().embedding.weight for run in stacked[:2])
    assert (first - second).abs().max() > 1e-3  # other learning rates give other networks


def test_with_an_l2_penalty_members_equal_their_own_runs_but_for_biases_of_keys(tmp_path, in_float64, tolerance):
    decoder = replace(SMALL, num_layers=2, activation="tanh", num_heads=4)
    wanted, tokens = recipes(decoder=decoder, weight_decay=0.01)[:2], tiny_tokens()
    stacked = train_stack(wanted, tokens, folders(wanted, tmp_path / "stack"), batched=True)
    for recipe, together in zip(wanted, stacked, strict=True):
        alone = train(recipe, tokens, tmp_path / "alone" / recipe.name)
        theirs = dict(together.decoder().named_parameters())
        for name, mine in alone.decoder().named_parameters():
            differing = (mine - theirs[name]).abs().detach()
            compared = differing[: decoder.width] if name.endswith("query_key.bias") else differing
            assert compared.max() <= tolerance("stack.member")
        losses = [run.journal().probes[-1][1] for run in (alone, together)]
        for row, other in zip(*losses, strict=True):
            if row.metric not in MOVED_BY_BIASES_OF_KEYS:
                assert abs(row.value - other.value) <= tolerance("stack.member")


def test_killed_stack_ends_with_the_same_numbers(tmp_path):
    wanted, tokens = recipes(), tiny_tokens()
    whole = train_stack(wanted, tokens, folders(wanted, tmp_path / "whole"), batched=True)

    def stop(_, done, out_of):
        if done == 61:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stack(wanted, tokens, folders(wanted, tmp_path / "parts"), batched=True, progress=stop)
    parts = train_stack(wanted, tokens, folders(wanted, tmp_path / "parts"), batched=True)
    assert [run.measurements() for run in parts] == [run.measurements() for run in whole]


def test_members_at_different_steps_meet(tmp_path, tolerance):
    wanted, tokens = recipes(), tiny_tokens()

    def stop(_, done, out_of):
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(wanted[0], tokens, tmp_path / wanted[0].name, progress=stop)
    runs = train_stack(wanted, tokens, folders(wanted, tmp_path), batched=True)
    alone = train(wanted[0], tokens, tmp_path / "alone")
    for one, other in zip(runs[0].measurements(), alone.measurements(), strict=True):
        if one.metric not in MOVED_BY_BIASES_OF_KEYS:
            assert abs(one.value - other.value) <= tolerance("stack.float32") * (1 + abs(other.value))


def test_diverged_member_fails_and_the_others_go_on(tmp_path):
    wanted, tokens = recipes(), tiny_tokens()
    wanted[1] = replace(wanted[1], learning_rate=1e30)
    found = train_stack(wanted, tokens, folders(wanted, tmp_path), batched=True)
    assert isinstance(found[1], RunFailed)
    assert "NaN or infinite" in str(found[1])
    alone = train_stack(
        [wanted[0], *wanted[2:]], tokens, folders([wanted[0], *wanted[2:]], tmp_path / "others"), batched=True
    )
    assert [found[at].measurements() for at in (0, 2, 3)] == [run.measurements() for run in alone]


def test_interrupted_right_after_a_member_diverged_the_others_are_saved(tmp_path):
    tokens = tiny_tokens()
    wanted = [replace(one, probe_every=100) for one in recipes()[:2]]
    wanted[0] = replace(wanted[0], learning_rate=1e30)

    def stop(_, done, out_of):
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stack(wanted, tokens, folders(wanted, tmp_path), progress=stop)
    saved = [[path.name for path in (tmp_path / one.name / "checkpoints").glob("*")] for one in wanted]
    assert saved == [[], ["step_000011.safetensors"]]


def test_networks_with_another_loss_are_refused(tmp_path):
    wanted = recipes(loss="linearised")
    assert not can_be_stacked(wanted[0])
    with pytest.raises(BadInput, match="a stack of networks with the loss 'linearised'"):
        train_stack(wanted, tiny_tokens(), folders(wanted, tmp_path))


def test_other_shapes_are_refused(tmp_path):
    wanted = recipes()
    with pytest.raises(BadInput, match="differ in name, seed and learning rate only"):
        train_stack([wanted[0], replace(wanted[1], batch_size=5)], tiny_tokens(), folders(wanted[:2], tmp_path))


def test_on_a_cpu_members_equal_their_own_runs_to_the_bit(tmp_path):
    wanted, tokens = recipes()[:2], tiny_tokens()
    stacked = train_stack(wanted, tokens, folders(wanted, tmp_path / "stack"))
    alone = [train(recipe, tokens, tmp_path / recipe.name) for recipe in wanted]
    assert [run.measurements() for run in stacked] == [run.measurements() for run in alone]
