"""Linear probes for the values of latents."""

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from joma.errors import InvalidArgument
from joma.measure.latents.probes import linear_probe, probe_matrix


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values(seed: int, *shape: int, count: int = 4) -> torch.Tensor:
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


def test_latent_that_is_linear_in_the_units_is_found_and_an_unrelated_one_is_not(tolerance):
    shown, hidden = values(0, 600, 2), values(1, 600, 1)
    units = one_hot(shown, 4).flatten(1).float() @ normal(2, 8, 12) + 0.01 * normal(3, 600, 12)
    found = linear_probe(units, torch.cat([shown, hidden], 1))
    assert found.accuracy[:2].tolist() == [1, 1]
    assert float(found.accuracy[2]) < 0.25 + tolerance("probes.chance")
    assert float(found.shuffled.max()) < 0.25 + tolerance("probes.chance")
    assert found.corrected is not None
    assert len(found.held_out) == 300


def test_relation_that_is_not_linear_is_not_found(tolerance):
    one, other = values(0, 800, count=2), values(1, 800, count=2)
    found = linear_probe(torch.stack([one, other], 1).float(), (one ^ other)[:, None])
    assert float(found.accuracy) < 0.5 + tolerance("probes.chance")


def test_predictions_are_normalised_and_give_the_cross_entropy():
    latents = values(0, 100, 3)
    found = linear_probe(normal(1, 100, 5), latents, num_values=6)
    assert found.log_probabilities.shape == (50, 3, 6)
    torch.testing.assert_close(found.log_probabilities.exp().sum(-1), torch.ones(50, 3, dtype=torch.float64))
    by_hand = cross_entropy(found.log_probabilities.flatten(0, 1), latents[found.held_out].flatten())
    assert float(found.cross_entropy_nats.mean()) == pytest.approx(float(by_hand))


def test_gradient_of_the_penalised_loss_vanishes_at_the_fit(tolerance):
    units, latents = normal(0, 80, 3), values(1, 80, 1, count=3)
    found = linear_probe(units, latents, penalty=0.1)
    fitted = torch.ones(80, dtype=torch.bool)
    fitted[found.held_out] = False
    known = units[fitted].double()
    scaled = ((units - known.mean(0)) / known.std(0)).double()
    weights = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):  # plain gradient descent on the same convex problem
        loss = cross_entropy(scaled[fitted] @ weights + bias, latents[fitted, 0]) + 0.05 * weights.square().sum()
        gradients = torch.autograd.grad(loss, (weights, bias))
        with torch.no_grad():
            weights -= gradients[0]
            bias -= gradients[1]
    expected = (scaled[found.held_out] @ weights + bias).log_softmax(-1)
    torch.testing.assert_close(
        found.log_probabilities[:, 0], expected.detach(), atol=tolerance("probes.optimum"), rtol=0
    )


def test_constant_units_change_nothing():
    units, latents = normal(0, 60, 4), values(1, 60, 2)
    more = torch.cat([units, torch.full((60, 2), 7.0)], 1)
    torch.testing.assert_close(
        linear_probe(more, latents).log_probabilities, linear_probe(units, latents).log_probabilities
    )


def test_table_has_a_row_for_each_layer():
    table = probe_matrix([normal(0, 40, 3), normal(1, 40, 5)], [values(2, 40, 2), values(3, 40, 1)])
    assert [[entry.accuracy.numel() for entry in row] for row in table] == [[2, 1], [2, 1]]
    assert torch.equal(table[0][0].held_out, table[1][1].held_out)


@pytest.mark.parametrize(
    ("units", "latents", "received"),
    [
        (torch.ones(8, 2), torch.ones(8, 1), "float32"),
        (torch.ones(8, 2), torch.full((8, 1), -1), "from -1"),
        (torch.ones(8, 2), torch.ones(7, 1, dtype=torch.long), r"shape \(7, 1\)"),
        (torch.ones(3, 2), torch.ones(3, 1, dtype=torch.long), r"shape \(3, 2\)"),
        (torch.full((8, 2), torch.inf), torch.ones(8, 1, dtype=torch.long), "infinite"),
    ],
)
def test_bad_input_is_refused(units, latents, received):
    with pytest.raises(InvalidArgument, match=received):
        linear_probe(units, latents)
