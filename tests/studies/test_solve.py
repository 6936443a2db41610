"""`joma.solve`: verdicts and sentences against the turns of the integrated entropy, and what it takes and refuses."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import joma
from joma.errors import InvalidArgument

SPARSE, DENSE = "sparse, then dense", "dense, then sparse"
COURSES = [
    ({"delta": [1, 1]}, "constant"),
    ({"delta": [0, 0, 0]}, "constant"),
    ({"delta": [2]}, "constant"),
    ({"mu": [2]}, "constant"),
    ({"mu": [2, 2]}, "constant"),
    ({"mu": [2, -2]}, "constant"),
    ({"delta": [1, 2]}, "only gets sparser"),
    ({"mu": [2, 0]}, "only gets sparser"),
    ({"mu": [0, 0], "v0": [3, 2]}, "only gets denser"),
    ({"mu": [1, 1], "v0": [3, 1]}, "only gets denser"),
    ({"mu": [3, 2, 1, 0.5]}, SPARSE),
    ({"mu": [10, 7]}, SPARSE),
    ({"mu": [3, 2], "v0": [0, 2.9]}, DENSE),
    ({"delta": [2, -1.5, 1], "v0": [-3, 2, 1]}, DENSE),
    ({"delta": [2, 0.1], "v0": [-2, 0.1]}, f"{DENSE}, then {DENSE}"),  # |v₀| is 0 between two equal values of |v|
    ({"mu": [7, 10], "v0": [3, 0]}, f"{SPARSE}, then sparse"),
]


@pytest.mark.parametrize("attention", ["softmax", "exp"])
@pytest.mark.parametrize(("given", "course"), COURSES)
def test_the_verdict_names_the_turns_of_the_entropy(given, course, attention):
    assert joma.solve([0, 1], **given, attention=attention).verdicts()["verdict"].tolist() == [course]


def turns(entropy):
    rises = [bool(step > 0) for step in np.diff(entropy) if abs(step) > 1e-9]
    return [rise for rise, _ in itertools.groupby(rises)]


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5, 6])  # 3 turns once by 1e-10 nats, which the integrator misses
def test_the_verdict_has_the_turns_of_an_integrated_entropy(seed):
    rng = np.random.default_rng(seed)
    rates, v0 = rng.uniform(-3, 3, (2, 3))
    name = "mu" if seed % 2 else "delta"

    def attention(v):
        weights = np.exp((v**2 - (v**2).max(0)) / 2)
        return weights / weights.sum(0)

    def velocity(_, v):
        return (rates - v if name == "mu" else rates) * attention(v)

    times = np.concatenate([np.linspace(0, 8, 20001), np.geomspace(8.01, 5e3 if name == "mu" else 20, 4000)])
    path = solve_ivp(velocity, (0, times[-1]), v0, t_eval=times, method="LSODA", rtol=1e-12, atol=1e-13)
    shares = attention(path.y)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(0)
    verdict = joma.solve([0, 1], **{name: rates.tolist()}, v0=v0.tolist()).verdicts()["verdict"][0]
    rises = turns(entropy)
    expected = ", then ".join("dense" if rise else "sparse" for rise in rises)
    assert verdict == (expected if len(rises) > 1 else f"only gets {expected}r")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mu": [2, 2]}, "stays at 0.6931 nats"),
        ({"mu": [1, 1], "v0": [3, 1]}, "sparsest at the start: 0.09009 nats; it only gets denser"),
        ({"mu": [3, 2], "v0": [0, 2.9]}, "sparsest at the start: 0.07663 nats; it gets denser, then sparser."),
        ({"mu": [3, 2, 1, 0.5]}, "at t = 9.05055: 0.2311 nats; then it gets denser again"),
        ({"mu": [7, 10], "v0": [3, 0]}, "in the limit of late times: 2.232·10⁻¹⁰ nats; it gets sparser, then denser,"),
        ({"delta": [1, 1]}, "Attention never changes; v[0] and v[1] take"),
        ({"delta": [2, -1.5, 1], "v0": [-3, 2, 1]}, "Attention gets denser, then sparser; v[2] takes"),
    ],
)
def test_the_closing_sentence_says_what_the_verdict_says(given, sentence):
    assert sentence in joma.solve([0, 1], **given).summary()


def test_the_sparsest_state_of_fast_components_is_the_same_without_normalisation():
    softmax, plain = (joma.solve([0, 1], mu=[10, 7], attention=kind).sparsest for kind in ("softmax", "exp"))
    assert torch.equal(softmax.v, plain.v)
    assert plain.time < softmax.time < math.inf


@pytest.mark.parametrize(
    "mu", [np.array([3, 2, 1]), np.array([3, 2, 1], dtype=np.int8), [np.int64(3), np.float32(2), 1], (3, 2, 1)]
)
def test_whole_numbers_of_every_kind_are_taken(mu):
    expected = joma.solve([0.0, 1.0], mu=[3.0, 2.0, 1.0]).v
    assert torch.equal(joma.solve(np.array([0, 1]), mu=mu, v0=np.int64(0), gain=np.float64(0.5)).v, expected)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"mu": [[1, 2], [3, 4]]}, r"`mu` is of shape \(2, 2\).*call solve once for each row"),
        ({"t": [[0, 1]]}, r"`t` is of shape \(1, 2\)"),
        ({"v0": [[0], [1]]}, r"`v0` is of shape \(2, 1\)"),
        ({"gain": "a"}, "`gain` is "),
        ({"gain": None}, "`gain` is "),
        ({"gain": [0.5, 1.0]}, r"`gain` is of shape \(2,\)"),
        ({"gain": 1j}, "`gain` is "),
        ({"gain": math.nan}, "`gain` is "),
        ({"mu": ["a", "b"]}, "`mu` is "),
        ({"mu": [1.0, math.inf]}, "`mu` is inf"),
        ({"mu": [40.0, 1.0]}, "`mu` is as large as 40; expected at most 36"),
        ({"mu": None, "delta": [1e200, 1.0]}, "`delta` is as large as"),
        ({"mu": None, "delta": [1.0, 2.0], "v0": 50.0, "attention": "exp"}, "`v0` is as large as 50"),
    ],
)
def test_what_is_refused_is_refused_in_the_name_of_solve(odd, message):
    with pytest.raises(joma.InvalidArgument, match=f"^solve: {message}"):
        joma.solve(**{"t": [0, 1], "mu": [2.0, 1.0]} | odd)


def test_more_components_than_fit_into_memory_are_refused():
    with pytest.raises(InvalidArgument, match="`mu` is 70,000; expected at most 2,500 numbers for 1 times"):
        joma.solve([1.0], mu=torch.ones(70_000))
