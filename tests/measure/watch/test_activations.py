"""The largest activation after each layer is that of the hidden states which the model itself returns."""

import pytest
import torch
from small_models import small_batch, small_model
from torch import nn

import joma
from joma.errors import BadInput
from joma.measure.watch.activations import NAME


def measured(model, batch):
    with joma.watch(model, batch, measures=["activations"]) as probe:
        return {row.layer: row.value for row in probe.probes[0]}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "gpt_neox", "opt"])
def test_it_is_the_largest_entry_of_the_hidden_states_without_padding(kind):
    model, batch = small_model(kind), small_batch(kind, padded=True)
    found = measured(model, batch)
    seen = []
    layers = next(module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == 2)
    hooks = [each.register_forward_hook(lambda *call: seen.append(call[-1])) for each in layers]
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    states = [one[0] if isinstance(one, tuple) else one for one in seen]
    expected = [state[batch["attention_mask"].bool()].abs().max().item() for state in states]
    assert found == pytest.approx(dict(enumerate(expected)))


def test_layers_of_torch_are_measured_and_a_single_one_is_the_model():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    states = torch.randn(2, 5, 8)
    assert measured(layer, states) == pytest.approx({0: layer(states).abs().max().item()})
    stack = nn.TransformerEncoder(layer, 2)
    assert measured(stack, states)[1] == pytest.approx(stack(states).abs().max().item())


class Named(nn.Module):
    """Layers whose names have no numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))

    def forward(self, x):
        x = self.first(x, x, x)[0]
        return self.second(x, x, x)[0]


def test_layers_without_numbers_are_refused():
    with pytest.raises(BadInput, match=f"the layer of first has no output that is known.*leave {NAME} out"):
        measured(Named(), torch.randn(1, 4, 8))


def test_activations_that_are_not_finite_give_a_warning_and_no_row():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    model.layers[1].norm2.weight.data[0] = torch.inf
    with pytest.warns(RuntimeWarning, match="activations of layer 1 are not finite"):
        assert set(measured(model, torch.randn(1, 4, 8))) == {0}


def test_neither_activations_nor_gradients_are_measured_unless_they_are_named():
    for measures in (None, "all"):
        with joma.watch(small_model("gpt2"), small_batch("gpt2"), measures=measures) as probe:
            metrics = {row.metric for row in probe.probes[0]}
        assert metrics.isdisjoint((NAME, "gradient_stable_rank"))
