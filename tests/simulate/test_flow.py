"""The gradient flow against closed forms, its own convergence rate, and Theorem 1."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erfinv

from joma.errors import BadInput, InvalidArgument, RunFailed
from joma.problem.classes import classification_data, gaussian_classes, random_parameters
from joma.problem.one_layer import OneLayer, Parameters, activity, orthonormal_embeddings
from joma.simulate.flow import Adaptive, FixedStep, flow
from joma.simulate.trajectory import load_trajectory, save_trajectory
from joma.tensorfiles import read_tensors, write_tensors

SEEDS = [0, 1]
TIMES = torch.linspace(0, 6, 7, dtype=torch.float64)


def classifier(attention="exp", n_queries=1, seeds=SEEDS, **settings):
    data = classification_data(gaussian_classes(3, 5, width=1.0), 8, 6, seeds, n_queries)
    model = OneLayer(*data, *orthonormal_embeddings(5, n_queries), attention, **{"trains_upper": True} | settings)
    return model, random_parameters(model, 4, seeds, scale=0.4, logit=1.0)


def one_token_samples(delta):
    """Each sample holds one token and a constant gradient, one hidden unit: theory section 3a, v̇ = Δ∘exp(v²/2)."""
    n = len(delta)
    model = OneLayer(
        torch.eye(n, dtype=torch.float64).unsqueeze(0),
        n * torch.tensor(delta, dtype=torch.float64).reshape(1, n, 1),
        *orthonormal_embeddings(n),
        attention="exp",
        loss="constant_gradient",
    )
    return model, Parameters(torch.zeros(n + 1, 1).double(), torch.zeros(1, n).double())


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("method", ["DOP853", "LSODA", "Radau"])
def test_flow_follows_the_closed_form_of_theorem_2(reduced, method, tolerance):
    delta = np.array([0.7, -0.3, 0.0])
    model, start = one_token_samples(delta)
    times = np.linspace(0, 1.6, 9)
    solver = Adaptive(method, 1e-11 if method != "Radau" else 1e-9)
    seen = flow(model, start, times, reduced=reduced, solver=solver).complete()
    exact = math.sqrt(2) * erfinv(math.sqrt(2 / math.pi) * delta * times[:, None])
    assert np.abs(seen.token_weights[..., 0].numpy() - exact).max() < tolerance("simulation.solver")
    assert np.abs(seen.attention_logits[:, 0].numpy() - exact**2 / 2).max() < tolerance("simulation.solver")


@pytest.mark.parametrize("reduced", [False, True])
def test_a_flow_that_reaches_infinity_reports_the_time(reduced, tolerance):
    model, start = one_token_samples([1.0, 0.2])
    seen = flow(model, start, [0.0, 0.5, 1.0, 2.0], reduced=reduced)
    assert seen.status.name == "stopped"
    assert len(seen.times) == 3
    when = float(seen.status.cause.split("t = ")[1].split()[0])
    assert abs(when - math.sqrt(math.pi / 2)) < tolerance("simulation.blow_up")
    with pytest.raises(RunFailed, match="3 snapshots up to 1 are kept"):
        seen.complete()


def test_a_flow_that_needs_too_many_evaluations_stops_and_keeps_what_it_has():
    model, start = classifier(activation="relu")
    seen = flow(model, start, TIMES, solver=Adaptive(max_evaluations=20))
    assert seen.status.name == "too_many_evaluations"
    assert len(seen.times) < len(TIMES)
    assert seen.residual.shape[0] == len(seen.times)


def test_fixed_steps_are_of_fourth_order(tolerance):
    model, start = classifier(activation="tanh")
    exact = flow(model, start, TIMES[:3], solver=Adaptive(tolerance=1e-13)).weights
    errors = [(flow(model, start, TIMES[:3], solver=FixedStep(h)).weights - exact).abs().max() for h in (0.25, 0.125)]
    assert abs(math.log2(errors[0] / errors[1]) - 4) < tolerance("simulation.order")


@pytest.mark.parametrize("attention", ["linear", "exp"])
@pytest.mark.parametrize("n_queries", [1, 3])
@pytest.mark.parametrize("activation", ["identity", "gelu"])
def test_the_invariant_is_constant_though_the_logits_move(attention, n_queries, activation, tolerance):
    model, start = classifier(attention, n_queries, activation=activation)
    seen = flow(model, start, TIMES).complete()
    assert seen.motion.abs().max() > tolerance("simulation.moved")
    assert seen.residual.abs().max() < tolerance("simulation.solver")


@pytest.mark.parametrize("loss", ["squared_error", "constant_gradient"])
def test_the_invariant_needs_no_particular_loss_and_no_trained_upper_layer(loss, tolerance):
    model, start = classifier("exp", loss=loss, temperature=2.0, trains_upper=False)
    seen = flow(model, start, TIMES / 4).complete()
    assert seen.motion.abs().max() > tolerance("simulation.moved")
    assert seen.residual.abs().max() < tolerance("simulation.solver")


@pytest.mark.parametrize("n_queries", [1, 2])
def test_softmax_keeps_its_identities_but_not_the_uncorrected_invariant(n_queries, tolerance):
    model, start = classifier("softmax", n_queries, temperature=0.5, activation="tanh")
    seen = flow(model, start, TIMES).complete()
    assert seen.identities.logit_sum.abs().max() < tolerance("simulation.sums")
    assert seen.identities.closed.abs().max() < tolerance("simulation.solver")
    if n_queries == 1:
        assert seen.residual.abs().max() > 100 * tolerance("simulation.solver")


def test_the_loss_never_increases():
    model, start = classifier("softmax", activation="softplus")
    seen = flow(model, start, TIMES).complete()
    losses = torch.stack([activity(model, seen.parameters(index)).loss for index in range(len(TIMES))])
    assert (losses.diff(dim=0) < 0).all()


@pytest.mark.parametrize("attention", ["linear", "exp"])
def test_reduced_flow_equals_the_full_flow(attention, tolerance):
    model, start = classifier(attention, activation="tanh")
    start = start._replace(attention_logits=2 * start.attention_logits)  # z² above Σ v², for the linear sign
    full, reduced = flow(model, start, TIMES), flow(model, start, TIMES, reduced=True)
    assert (full.weights - reduced.weights).abs().max() < tolerance("simulation.solver")
    assert (full.attention_logits - reduced.attention_logits).abs().max() < tolerance("simulation.solver")
    assert reduced.upper is not None
    assert (full.upper - reduced.upper).abs().max() < tolerance("simulation.solver")


def test_problems_of_a_batch_flow_as_each_does_alone(tolerance):
    together = flow(*classifier("softmax", activation="tanh"), TIMES)
    for index, seed in enumerate(SEEDS):
        alone = flow(*classifier("softmax", seeds=[seed], activation="tanh"), TIMES)
        assert (together.weights[:, index] - alone.weights[:, 0]).abs().max() < tolerance("simulation.solver")


def test_a_single_time_is_the_start():
    model, start = classifier()
    seen = flow(model, start, [3.0])
    assert seen.weights[0].equal(start.weights)
    assert seen.residual.abs().max() == 0


@pytest.mark.parametrize("attention", ["linear", "softmax"])
def test_a_saved_trajectory_is_read_unchanged(attention, tmp_path):
    seen = flow(*classifier(attention), TIMES, solver=Adaptive(max_evaluations=100))
    save_trajectory(seen, tmp_path / "seen.safetensors")
    back = load_trajectory(tmp_path / "seen.safetensors")
    assert back.weights.equal(seen.weights)
    assert back.residual.equal(seen.residual)
    assert (back.recoil_integral is None) == (attention == "linear")
    assert (back.status, back.attention, back.temperature) == (seen.status, seen.attention, seen.temperature)


def test_a_file_that_is_not_a_trajectory_is_refused(tmp_path):
    path = tmp_path / "seen.safetensors"
    save_trajectory(flow(*classifier(), TIMES), path)
    path.write_bytes(path.read_bytes()[:-8])
    for bad in (path, tmp_path / "absent", tmp_path):
        with pytest.raises(BadInput, match="cannot be read as a trajectory"):
            load_trajectory(bad)


@pytest.mark.parametrize("at", [-1, -100, 40])
def test_an_altered_trajectory_is_refused(tmp_path, at):
    path = tmp_path / "seen.safetensors"
    save_trajectory(flow(*classifier(), TIMES), path)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read as a trajectory"):
        load_trajectory(path)


@pytest.mark.parametrize(
    "facts", [{}, {"attention": "none"}, {"temperature": "1"}, {"status": None}, {"status": {"name": 3}}, {"more": 1}]
)
def test_a_trajectory_with_settings_of_another_shape_is_refused(tmp_path, facts):
    path = tmp_path / "seen.safetensors"
    save_trajectory(flow(*classifier(), TIMES), path)
    kept, tensors = read_tensors(path)
    write_tensors(path, kept | facts if facts else facts, tensors)
    with pytest.raises(BadInput, match="cannot be read as a trajectory"):
        load_trajectory(path)


def test_identities_of_other_attention_are_refused():
    with pytest.raises(InvalidArgument, match="one of exp attention"):
        _ = flow(*classifier("exp"), TIMES[:2]).identities


@pytest.mark.parametrize(
    ("times", "named"),
    [([0.0, 0.0], "not increasing"), ([], "empty"), ([0.0, math.inf], "infinite"), ([[0.0]], "of shape (1, 1)")],
)
def test_times_must_increase(times, named):
    with pytest.raises(InvalidArgument, match="`times`") as caught:
        flow(*classifier(), torch.tensor(times, dtype=torch.float64))
    assert named in str(caught.value)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("method", ["DOP853", "RK45", "LSODA", "Radau", "BDF"])
@pytest.mark.parametrize("logit", [-1e3, 1e3, 1e308])
def test_a_flow_that_is_not_finite_at_its_start_ends_with_a_status(logit, method):
    model, start = classifier("exp", seeds=[0], loss="squared_error")
    logits = start.attention_logits * logit
    seen = flow(model, start._replace(attention_logits=logits), [0.0, 1.0], solver=Adaptive(method))
    assert seen.status.ok == (logit < 0)
    assert len(seen.times) == 1 + (logit < 0)


def test_fixed_steps_that_would_take_for_ever_are_refused():
    for step in (1e-300, 1e-12):
        with pytest.raises(InvalidArgument, match="flow: `step` is 1e-"):
            flow(*classifier(), TIMES, solver=FixedStep(step))


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Adaptive("DOPRI853"), "did you mean 'DOP853'"),
        (lambda: Adaptive(tolerance=1e-15), "`tolerance` is 1e-15"),
        (lambda: Adaptive(max_evaluations=0), "`max_evaluations` is 0"),
        (lambda: FixedStep(-1.0), "`step` is -1"),
    ],
)
def test_solver_settings_are_checked(build, named):
    with pytest.raises(InvalidArgument) as caught:
        build()
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("attention", "n_queries", "change", "named"),
    [
        ("exp", 2, {}, "a model with 2 queries"),
        ("exp", 1, {"context_embedding": torch.full((6, 5), 0.4).double()}, "not orthonormal"),
        ("linear", 1, {}, "after which the sign of z is not known"),
    ],
)
def test_reduced_flow_is_refused_where_theorem_1_gives_no_logits(attention, n_queries, change, named):
    model, start = classifier(attention, n_queries)
    changed = OneLayer(**{name: getattr(model, name) for name in model.__dataclass_fields__} | change)
    small = start._replace(attention_logits=start.attention_logits / 10)
    with pytest.raises(InvalidArgument, match="`reduced`") as caught:
        flow(changed, small, TIMES, reduced=True)
    assert named in str(caught.value)
