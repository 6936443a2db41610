"""Evidence for the report tests: shaped like real evidence, with texts that try to inject markup."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from joma.charts import Chart, Curve, Mark
from joma.claims.evaluation import Outcome
from joma.claims.registry import OWN
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.report.pages.claims import Context

HOSTILE = "<script>alert(1)</script></script><b>x</b> \"q\" 'q' & &lt; %{x} $a_b$ \u2028"


def entropy(step: float, depth: float) -> float:
    return 2.54 - depth * (step / (step + 180)) + 0.55 * depth * (step / (step + 5000))


def text_curves() -> tuple[Curve, ...]:
    noise = random.Random(0)
    steps = [10.0 * 1.09**power for power in range(75)]
    curves = []
    for group, depth in (("full network", 1.25), ("linear MLP", 0.95), ("no MLP", 0.9), ("no LayerNorm", 0.72)):
        y = [entropy(step, depth) + noise.gauss(0, 0.008) for step in steps]
        low, high = [value - 0.04 for value in y], [value + 0.05 for value in y]
        curves.append(Curve(f"{group}, mean of 3 seeds", steps, y, low, high, "measured", group))
    flat = [2.45 + 0.04 * math.sin(step / 900) for step in steps]
    curves.append(Curve("shuffled words", steps, flat, role="control", group="shuffled"))
    curves.append(Curve("uniform attention, ln of the number of visible keys", steps, [2.6] * 75, role="context"))
    return tuple(curves)


@pytest.fixture(scope="session")
def text_chart() -> Chart:
    return Chart(
        "entropy",
        "Attention becomes sparse, then dense again",
        "Mean attention entropy on held-out text; the band spans three seeds. It falls within a few hundred steps "
        "and climbs for the rest of the run, with and without the nonlinearity.",
        "optimiser steps",
        "attention entropy (nats)",
        text_curves(),
        (
            Mark("x", 600, "lowest, full network"),
            Mark("x", 950, "lowest, no MLP"),
            Mark("x", 3000, "learning rate halves"),
            Mark("y", 1.54, "threshold"),
        ),
        x_scale="log",
    )


@pytest.fixture(scope="session")
def residual_chart() -> Chart:
    times = [index / 10 for index in range(120)]
    residual = [1e-13 * (1 + time) for time in times]
    off = [1e-4 * (1 + time**2) for time in times]
    return Chart(
        "residual",
        "The invariant stays constant to the last digits",
        "Largest change of the invariant along the flow, relative to its size; without the norm term it drifts.",
        "time",
        "relative change",
        (
            Curve("ReLU", times, residual, [1e-14] * 120, [4e-13 * (1 + time) for time in times]),
            Curve("the theory", [0.0, 11.9], [2e-13, 2e-13], role="predicted"),
            Curve("norm term left out", times, off, role="control"),
        ),
        (Mark("y", 1e-8, "tolerance of the integrator"),),
        y_scale="log",
    )


@pytest.fixture(scope="session")
def hostile_chart() -> Chart:
    steps = [0.0, 100.0, 200.0, 300.0]
    return Chart(
        "hostile",
        f"Title {HOSTILE}",
        f"Caption {HOSTILE}",
        f"x {HOSTILE}",
        f"y {HOSTILE}",
        (
            Curve(f"Curve {HOSTILE}", steps, [1.0, 2.0, 1.5, 1.75], [0.9, 1.8, 1.2, 1.5], [1.1, 2.2, 1.8, 2.0]),
            Curve("token '<b>x</b>'", steps, [1.2, 1.1, 1.0, 0.9], role="predicted", group=HOSTILE),
        ),
        (Mark("x", 100.0, "<b>mark</b> & <a href='#'>x</a>"), Mark("y", 1.5, "<i>level</i>")),
    )


@pytest.fixture(scope="session")
def agreements(text_chart, residual_chart, hostile_chart) -> dict[str, Agreement]:
    exact = Agreement(
        Criterion("largest relative change of the invariant", "<=", 1e-8, "a hundred times the integrator's error"),
        Estimate((3.1e-13, 2.7e-13, 4.4e-13)),
        (Control("the same with the norm term left out", Estimate((0.031, 0.027, 0.042))),),
        "The invariant holds for every activation tried, to the accuracy of the integrator.",
        tuple(
            Finding(f"{activation}, largest relative change", Estimate((3e-13, 2e-13)), "gradient flow, 50 times")
            for activation in ("ReLU", "GELU", "tanh", "identity", "square")
        ),
        (residual_chart,),
    )
    fails = Agreement(
        Criterion(
            "how much of the recovery is lost when the MLP is linear",
            ">=",
            0.5,
            "half of the recovery is the least that a cause may explain",
        ),
        Estimate((0.04, -0.06, 0.02), "of the recovery"),
        (
            Control(
                "two sets of seeds of the full network, one against the other",
                Estimate((0.01, 0.02, -0.03), "of the recovery"),
            ),
        ),
        "Attention recovers without the nonlinearity, and without any MLP. This touches the statement that the "
        "nonlinearity makes attention dense again (section 4.2); the assumption that fails is a constant upstream "
        "gradient: under cross-entropy it dies down as the loss falls. What is left is the depth of the first dip.",
        (Finding("depth of the first dip, full − linear", Estimate((0.31, 0.28, 0.35), "nats"), "lasts"),),
        (text_chart, residual_chart, hostile_chart),
        ("Vocabulary of 2,000 words, the paper has 33,278.", "Learning rate 3e-4 instead of 1e-4."),
    )
    holds = Agreement(
        Criterion("recovery of the entropy, as a share of its dip", ">=", 0.2, "twice the spread over probes"),
        Estimate((0.43, 0.47, 0.51)),
        (
            Control(f"probes in random order {HOSTILE}", Estimate((0.02, -0.05, 0.04))),
            Control("shuffled words", Estimate((0.01, 0.02, 0.0))),
        ),
        "The phenomenon is there: " + HOSTILE,
        (Finding(HOSTILE, Estimate((1.54,), "nats"), HOSTILE),),
        (text_chart,),
        (HOSTILE,),
    )
    undecided = Agreement(
        Criterion("drop of the stable rank", ">=", 2.0, "what two seeds differ by"),
        Estimate((12.0, 11.0, 14.5)),
        (Control("the network with a linear MLP", Estimate((11.0, 10.0, 12.0))),),
        "The control drops as well, so the test cannot distinguish the two.",
        (),
        (hostile_chart,),
    )
    return {
        "theorem1.exp": exact,
        "text.sparse_then_dense": holds,
        "text.mechanism": fails,
        "text.rank_drop": undecided,
    }


@pytest.fixture(scope="session")
def outcomes(agreements) -> list[Outcome]:
    return [
        Outcome(
            replace(claim, evaluate="joma:a_report_evaluates_nothing"),
            agreements.get(claim.id),
            "" if claim.id in agreements else f"loss is NaN at step 40 {HOSTILE}",
            12.3,
        )
        for claim in OWN
        if claim.id in agreements or claim.id == "theorem1.softmax"
    ]


@pytest.fixture(scope="session")
def context() -> Context:
    return Context(
        title="joma reproduce",
        profile="quick",
        text="Python's help topics and docstrings: 341,210 words, vocabulary of 2,000",
        seeds="3 per claim",
        created=datetime(2026, 11, 23, 18, 5, tzinfo=UTC),
        seconds=248.0,
        versions={"joma": "0.1.0", "torch": "2.13.0", "python": "3.11.9", "evil": HOSTILE},
        options="--profile quick",
        notes=("Vocabulary, steps and learning rate differ from the paper's.",),
    )
