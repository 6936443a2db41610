"""The stable rank of gradients is that of ``loss.backward()`` in evaluation mode, and training does not notice it."""

import pytest
import torch
from small_models import small_model
from torch import nn

import joma
from joma.errors import BadInput
from joma.measure.spectra.spectrum import stable_rank
from joma.measure.watch.gradients import NAME

IDS = torch.randint(3, 99, (2, 10), generator=torch.Generator().manual_seed(0))
BATCH = {"input_ids": IDS, "labels": IDS}
ROLES = ("query", "mlp_lower")


def measured(model, batch=BATCH, roles=ROLES):
    with joma.watch(model, batch, measures=["gradients"], projections=roles) as probe:
        return probe.probes[0]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_it_is_the_rank_of_the_gradient_of_the_loss(kind):
    model = small_model(kind, "AutoModelForCausalLM")
    rows = {(row.layer, row.head, row.projection): row.value for row in measured(model)}
    model(**BATCH).loss.backward()
    name = {"llama": "model.layers.1.mlp.up_proj", "gpt2": "transformer.h.1.mlp.c_fc"}[kind]
    gradient = model.get_submodule(name).weight.grad
    assert rows[1, None, "mlp_lower"] == pytest.approx(stable_rank(gradient).item(), rel=1e-6)
    assert {head for layer, head, role in rows if (layer, role) == (0, "query")} == {None, 0, 1, 2, 3}
    assert len(rows) == 2 * (1 + 1 + 4)


def test_gradients_of_training_and_random_numbers_are_not_touched():
    model = small_model("llama", "AutoModelForCausalLM").train()
    model(**BATCH).loss.backward()
    before, state = [part.grad.clone() for part in model.parameters()], torch.get_rng_state()
    measured(model)
    assert all(torch.equal(part.grad, kept) for part, kept in zip(model.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_experts_that_no_token_reaches_have_no_row():
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=6, num_experts_per_tok=1))
    ids = torch.tensor([[5, 5]])
    rows = [row for row in measured(model, {"input_ids": ids, "labels": ids}, "mlp_lower") if row.layer == 1]
    groups = {row.group for row in rows}
    assert None in groups
    assert 1 <= len(groups - {None}) <= 2


def test_frozen_projections_are_left_out():
    model = small_model("llama", "AutoModelForCausalLM")
    for part in model.model.layers[0].parameters():
        part.requires_grad_(False)
    assert {row.layer for row in measured(model)} == {1}
    with pytest.raises(BadInput, match=f"all projections of these roles are frozen.*leave {NAME} out"):
        measured(model.requires_grad_(False))


@pytest.mark.parametrize("batch", [{"input_ids": IDS}, (IDS,)], ids=["named", "positional"])
def test_a_batch_without_a_loss_is_refused_with_what_to_pass(batch):
    with pytest.raises(BadInput, match=r'returns no loss on the probe batch.*"labels": ids'):
        measured(small_model("llama", "AutoModelForCausalLM"), batch)


def test_a_model_that_returns_its_loss_alone_is_measured():
    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).layers

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x.square().mean() + x.sum()

    assert {row.layer for row in measured(Regression(), torch.randn(2, 4, 8), "mlp_lower")} == {0, 1}
