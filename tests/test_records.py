"""The verdict of measured value and controls, in every combination."""

import json
import math

import numpy as np
import pytest
import torch

from joma.charts import Chart, Curve, Mark
from joma.records import (
    Agreement,
    Control,
    Criterion,
    Estimate,
    Finding,
    Verdict,
    agreement_from_json,
)

PASSING, FAILING, STRADDLING = Estimate((5.0, 5.1, 4.9)), Estimate((0.0, 0.1, -0.1)), Estimate((-3.0, 1.0, 5.0))
CRITERION = Criterion("a quantity", ">=", 1.0, "because")


def agreement(measured: Estimate, *controls: Estimate) -> Agreement:
    named = tuple(Control(f"control {idx}", estimate) for idx, estimate in enumerate(controls))
    return Agreement(CRITERION, measured, named, "conclusion")


@pytest.mark.parametrize(
    ("measured", "controls", "verdict"),
    [
        (PASSING, [FAILING], Verdict.HOLDS),
        (FAILING, [FAILING], Verdict.FAILS),
        (STRADDLING, [FAILING], Verdict.UNDECIDED),
        (PASSING, [PASSING], Verdict.UNDECIDED),
        (PASSING, [FAILING, PASSING], Verdict.UNDECIDED),
        (FAILING, [PASSING], Verdict.FAILS),
        (PASSING, [STRADDLING], Verdict.UNDECIDED),
        (PASSING, [Estimate((-1.0, 0.0, 2.5))], Verdict.UNDECIDED),
        (Estimate((50.0, 50.1)), [Estimate((0.5, 1.0, 1.5))], Verdict.HOLDS),
        (PASSING, [], Verdict.UNDECIDED),
    ],
)
def test_verdict_follows_from_measured_value_and_controls(measured, controls, verdict):
    assert agreement(measured, *controls).verdict is verdict


def test_a_criterion_can_require_small_numbers():
    criterion = Criterion("an error", "<=", 1e-6, "because")
    assert criterion.met_by(Estimate((1e-7,))) is True
    assert criterion.met_by(Estimate((1e-5,))) is False
    assert criterion.met_by(Estimate((1e-7, 1e-5))) is None


def test_the_interval_is_students():
    values = (1.0, 2.0, 3.0, 4.0)
    low, high = Estimate(values).interval
    half = 3.182446305284263 * math.sqrt(5 / 3) / 2  # t quantile 0.975 with 3 degrees of freedom, from a table
    assert (low, high) == pytest.approx((2.5 - half, 2.5 + half))


@pytest.mark.parametrize("values", [(), (math.nan,), (1.0, math.inf)])
def test_an_estimate_without_values_or_with_nan_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        Estimate(values)


def test_an_agreement_read_from_its_json_is_equal():
    curve = Curve("<script>", (0.0, 1.0), (2.0, 3.0), low=(1.0, 2.0), high=(3.0, 4.0), role="control")
    before = Agreement(
        CRITERION,
        PASSING,
        (Control("untrained", FAILING),),
        "conclusion",
        findings=(Finding("depth", PASSING, "a comment"),),
        charts=(Chart("entropy", "title", "caption", "x", "y", (curve,), (Mark("x", 1.0, "here"),)),),
        notes=("a note",),
    )
    text = json.dumps(before.to_json(), allow_nan=False)
    after = agreement_from_json(json.loads(text))
    assert after == before


@pytest.mark.parametrize("kind", [list, iter, np.array, np.float32, torch.tensor], ids=lambda kind: kind.__name__)
def test_an_estimate_takes_any_numbers_and_keeps_floats(kind):
    estimate = Estimate.of(kind([0.5, 1.5]), "nats")
    assert estimate == Estimate((0.5, 1.5), "nats")
    assert {type(value) for value in estimate.values} == {float}
