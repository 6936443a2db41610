"""Arguments of the solutions: shapes that do not broadcast and values without numbers are refused by name."""

import inspect
import math

import pytest
import torch

from joma.claims.dynamics.nonlinear import stepped_entropy
from joma.errors import InvalidArgument
from joma.theory import linear, nonlinear, normalized, normalized_linear
from joma.theory.dynamics import paper_figure4

MODULES = (linear, nonlinear, normalized, normalized_linear)
RATES = ("delta", "mu", "mu_j", "mu_k")


def solutions():
    """Return all public functions of the dynamics whose first parameter is a rate."""
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            parameters = list(inspect.signature(function).parameters)
            if function.__module__ == module.__name__ and parameters[0] in RATES and "gain" in parameters:
                yield pytest.param(function, id=name)


def valid(function) -> dict:
    values = {"t": [0.5, 1.0, 2.0], "v0": [0.1, 0.2, 0.3], "gain": 0.5} | {name: [1.0, 2.0, 3.0] for name in RATES}
    return {name: values[name] for name in inspect.signature(function).parameters}


ODD = [
    None,
    "numbers",
    [[1.0], [2.0, 3.0]],
    torch.ones(3).to_sparse(),
    torch.ones(3, device="meta"),
    torch.ones(3, dtype=torch.int64),
    torch.ones(3, dtype=torch.complex128),
    torch.ones((1,) * 70),
    [math.nan] * 3,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(type(odd).__name__))
@pytest.mark.parametrize("function", list(solutions()))
def test_every_argument_without_real_numbers_is_refused_by_name(function, odd):
    for name, value in valid(function).items():
        with pytest.raises(InvalidArgument, match=f"`{name}` is"):
            function(**valid(function) | {name: odd})
        function(**valid(function) | {name: value})


@pytest.mark.parametrize("function", list(solutions()))
def test_shapes_that_do_not_broadcast_are_refused(function):
    names = [name for name in valid(function) if name != "t"]
    for name in names:
        with pytest.raises(InvalidArgument, match="of shape"):
            function(**valid(function) | {name: torch.ones(5)})


def test_times_with_other_leading_axes_than_the_components_are_refused():
    mu, t = torch.ones(2, 3), torch.ones(4, 5)
    for function in (normalized.normalized_solution, normalized_linear.normalized_linear_solution):
        with pytest.raises(InvalidArgument, match=r"`t` is of shape \(4, 5\)"):
            function(mu, t)


def test_a_gain_given_as_a_number_keeps_all_its_digits(tolerance):
    arguments = [4.0, 3.0, 2.9, 1.0], torch.linspace(0, 3, 7), 0.05
    by_number = normalized_linear.linear_attention_entropy_over_time(*arguments, 1 / 3)
    by_tensor = normalized_linear.linear_attention_entropy_over_time(
        *arguments, torch.tensor(1 / 3, dtype=torch.float64)
    )
    assert torch.equal(by_number, by_tensor)
    v = normalized_linear.normalized_linear_solution(*arguments, 1 / 3)
    assert (by_number - torch.special.entr((v.square() / 3).softmax(-1)).sum(-1)).abs().max() < tolerance(
        "closed_form.sums"
    )


def test_explicit_steps_start_at_the_entropy_of_a_gain_of_all_digits(tolerance):
    mu = torch.linspace(1, 4, 10, dtype=torch.float64)
    v0 = paper_figure4(rates=mu).v0 * torch.arange(10)
    exact = torch.special.entr((v0.square() / 3).softmax(-1)).sum()
    assert float(normalized.entropy_of_squares(v0, 1 / 3)) == pytest.approx(
        float(exact), abs=tolerance("closed_form.sums")
    )
    assert stepped_entropy(mu)[0] == pytest.approx(math.log(10), abs=tolerance("closed_form.sums"))
