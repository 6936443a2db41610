import copy

import pytest
import torch
from torch import nn

from joma.measure.watch.sampling import WeightSample


def model():
    """Return weights of several dtypes and shapes, some frozen, shared, empty, or not contiguous."""
    torch.manual_seed(0)
    parts = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 3), nn.Linear(3, 2).half(), nn.Conv1d(2, 3, 2))
    parts[1].weight.requires_grad_(False)
    parts.turned = nn.Parameter(torch.randn(4, 6).T)
    parts.shared, parts.none, parts.one = parts[1].bias, nn.Parameter(torch.zeros(0)), nn.Parameter(torch.tensor(2.0))
    parts.counts = nn.Parameter(torch.arange(3), requires_grad=False)
    return parts


@pytest.mark.parametrize("name", [name for name, part in model().named_parameters() if part.is_floating_point()])
def test_a_change_of_any_weight_is_noticed(name):
    parts = model()
    sample = WeightSample(parts)
    sample.take()
    weight = parts.get_parameter(name)
    assert sample.is_current()
    before = weight.detach().clone()
    weight.data.add_(1)
    assert sample.is_current() == (weight.numel() == 0)
    weight.data.copy_(before)
    assert sample.is_current()
    weight.data = before + 1
    assert sample.is_current() == (weight.numel() == 0)
    sample.take()
    assert sample.is_current()


def test_a_copy_of_the_weights_in_another_place_is_no_change():
    parts = model()
    sample = WeightSample(parts)
    sample.take()
    parts.load_state_dict(copy.deepcopy(parts.state_dict()))
    for weight in parts.parameters():
        weight.data = weight.data.clone()
    assert sample.is_current()
