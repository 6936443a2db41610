"""The optimiser of a recipe takes the steps that its name says."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_recipe, tiny_tokens

from joma.train.decoder import Decoder, DecoderConfig
from joma.train.tasks import task_of
from joma.train.training import train

RECIPE = tiny_recipe(num_steps=1, early_until=0, decoder=DecoderConfig(20, width=16, hidden=16, dropout=0.0))


def trained(tmp_path, **changes) -> dict[str, torch.Tensor]:
    """The weights after one step."""
    return train(replace(RECIPE, **changes), tiny_tokens(), tmp_path / "tiny").decoder().state_dict()


def initial() -> Decoder:
    """The network before that step, with its gradient."""
    decoder = Decoder(RECIPE.decoder, RECIPE.seed).train()
    task_of(RECIPE, tiny_tokens(), torch.device("cpu")).loss(decoder, 0).backward()
    return decoder


def test_sgd_moves_against_the_gradient_by_the_learning_rate(tmp_path, tolerance):
    after = trained(tmp_path, optimizer="sgd", learning_rate=0.5, gradient_clip=1e6)
    for name, before in initial().named_parameters():
        assert (after[name] - (before - 0.5 * before.grad)).abs().max() <= tolerance("decoder.parity"), name


def test_sgd_is_clipped_to_the_largest_norm_of_the_gradient(tmp_path, tolerance):
    after, decoder = trained(tmp_path, optimizer="sgd", learning_rate=0.5, gradient_clip=1e-3), initial()
    moved = torch.cat([(after[name] - before).flatten() for name, before in decoder.named_parameters()])
    assert moved.norm().item() == pytest.approx(0.5e-3, rel=tolerance("training.clip"))


def test_weight_decay_of_adamw_does_not_pass_through_the_moments(tmp_path, tolerance):
    plain = trained(tmp_path / "plain", learning_rate=1e-2)
    after = trained(tmp_path / "decayed", learning_rate=1e-2, optimizer="adamw", weight_decay=0.5)
    for name, before in initial().named_parameters():
        expected = plain[name] - 1e-2 * 0.5 * before
        assert (after[name] - expected).abs().max() <= tolerance("decoder.parity"), name


def test_a_stopped_run_with_sgd_ends_as_one_that_was_not(tmp_path):
    recipe = replace(RECIPE, num_steps=6, optimizer="sgd", learning_rate=0.5)

    def stop(what: str, step: int, num_steps: int) -> None:
        if step == 3:
            raise InterruptedError

    whole = train(recipe, tiny_tokens(), tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(recipe, tiny_tokens(), tmp_path / "stopped", progress=stop)
    stopped = train(recipe, tiny_tokens(), tmp_path / "stopped")
    assert stopped.journal_path.read_bytes() == whole.journal_path.read_bytes()
