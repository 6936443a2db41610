"""Networks of patches: what a unit sees, independence of the networks of a stack, learning."""

import pytest
import torch

from joma.errors import InvalidArgument
from joma.train.tree_networks import Schedule, TreeNetworkConfig, TreeNetworks, error_rates, learn

CONFIG = TreeNetworkConfig(vocabulary_size=5, patch=2, num_layers=3, num_labels=4, width=6)


def tokens(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(5, shape, generator=torch.Generator().manual_seed(seed))


def test_hidden_units_of_a_patch_depend_on_its_tokens_alone():
    networks, before = TreeNetworks(CONFIG, [0, 1]), tokens(0, 2, 7, 8)
    after = before.clone()
    after[..., 2:4] = tokens(1, 2, 7, 2)
    changed = [
        (one != other).any(-1).any(1).any(0).tolist()
        for one, other in zip(networks.hidden(before), networks.hidden(after), strict=True)
    ]
    assert changed == [[False, True, False, False], [True, False], [True]]


def test_shared_patches_give_equal_units_for_equal_tokens():
    repeated = tokens(0, 1, 7, 2).repeat(1, 1, 4)
    for shared in (True, False):
        (lowest, *_) = TreeNetworks(TreeNetworkConfig(5, 2, 3, 4, 6, shared=shared), [3]).hidden(repeated)
        assert torch.allclose(lowest, lowest[:, :, :1].expand_as(lowest)) is shared


def test_network_does_not_depend_on_those_next_to_it():
    several, alone = TreeNetworks(CONFIG, [4, 5]), TreeNetworks(CONFIG, [4])
    data, labels = tokens(0, 2, 30, 8), tokens(1, 2, 30) % 4
    learn(several, data, labels, [30, 10], Schedule(20, batch_size=8))
    learn(alone, data[:1], labels[:1], [30], Schedule(20, batch_size=8))
    torch.testing.assert_close(several(data)[:1], alone(data[:1]))


def test_only_the_first_samples_are_learned():
    data, labels = tokens(0, 1, 40, 8), tokens(1, 1, 40) % 4
    networks = TreeNetworks(TreeNetworkConfig(5, 2, 3, 4, 32), [0])
    learn(networks, data, labels, [20], Schedule(200, learning_rate=1e-2, batch_size=20))
    assert float(error_rates(networks, data[:, :20], labels[:, :20])) < 0.1
    assert float(error_rates(networks, data[:, 20:], labels[:, 20:])) > 0.5


def test_initial_units_neither_grow_nor_vanish_from_layer_to_layer():
    layers = TreeNetworks(TreeNetworkConfig(5, 2, 4, 4, 256), [0]).hidden(tokens(0, 1, 50, 16))
    sizes = [float(layer.detach().square().mean()) for layer in layers[1:]]
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.parametrize(("name", "value"), [("patch", 1), ("num_layers", 0), ("num_labels", 1), ("width", 0)])
def test_impossible_architecture_is_refused(name, value):
    settings = {"vocabulary_size": 5, "patch": 2, "num_layers": 2, "num_labels": 4, name: value}
    with pytest.raises(InvalidArgument, match=name):
        TreeNetworkConfig(**settings)


def test_other_length_and_too_many_samples_are_refused():
    networks = TreeNetworks(CONFIG, [0])
    with pytest.raises(InvalidArgument, match="tokens"):
        networks(tokens(0, 1, 3, 7))
    with pytest.raises(InvalidArgument, match="num_samples"):
        learn(networks, tokens(0, 1, 3, 8), tokens(1, 1, 3) % 4, [4], Schedule(1))
