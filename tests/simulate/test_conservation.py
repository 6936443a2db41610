"""The drift of conserved quantities relative to the motion: by hand, and for each kind of attention."""

import pytest
import torch

from joma.problem.classes import classification_data, gaussian_classes, random_parameters
from joma.problem.one_layer import OneLayer, orthonormal_embeddings
from joma.simulate.conservation import conservation_of
from joma.simulate.flow import flow


def followed(attention: str, num_queries: int = 1):
    data = classification_data(gaussian_classes(3, 5, width=1.0), 8, 6, [0, 1], num_queries)
    model = OneLayer(*data, *orthonormal_embeddings(5, num_queries), attention, trains_upper=True)
    trajectory = flow(model, random_parameters(model, 4, [0, 1], scale=0.4, logit=1.0), [0.0, 0.5, 1.0])
    return trajectory, conservation_of(model, trajectory, "t")


@pytest.mark.parametrize(("attention", "law"), [("linear", "z² − Σv²"), ("exp", "z − Σv²/2T")])
def test_without_softmax_the_conserved_quantity_is_theorem_1s_invariant(attention, law, tolerance):
    trajectory, found = followed(attention)
    assert (found.law, found.closed) == (law, None)
    assert torch.equal(found.residual, trajectory.residual)
    assert float(found.relative(found.drift).max()) < tolerance("simulation.solver")
    assert found.loss.shape == (3, 2)


def test_softmax_over_one_query_also_has_the_identity(tolerance):
    _, found = followed("softmax")
    assert found.law.startswith("z − Σ(v²")
    assert float(found.relative(found.closed).max()) < tolerance("simulation.solver")


def test_softmax_over_several_queries_uses_the_identity_only(tolerance):
    trajectory, found = followed("softmax", 2)
    assert (found.law, found.closed) == (found.identity, None)
    assert torch.equal(found.residual, trajectory.identities.closed)
    assert float(found.relative(found.drift).max()) < tolerance("simulation.solver")


def test_drift_is_relative_to_the_largest_motion_of_the_run():
    _, found = followed("exp")
    expected = found.residual.abs().amax(-1) / found.motion.abs().amax((0, -1))
    assert torch.equal(found.relative(found.drift), expected)
    assert float(found.moved[0].max()) == 0.0
