"""The verdict of measured value and controls, in every combination."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from joma.charts import Chart, Curve, Mark
from joma.errors import InvalidArgument
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
        (Estimate((50.0, 50.1, 50.2)), [Estimate((0.5, 1.0, 1.5))], Verdict.UNDECIDED),  # with more seeds it may pass
        (PASSING, [], Verdict.UNDECIDED),
        (Estimate((5.0,)), [FAILING], Verdict.UNDECIDED),
        (Estimate((5.0, 5.1)), [FAILING], Verdict.UNDECIDED),
        (Estimate((0.0,)), [FAILING], Verdict.UNDECIDED),
        (Estimate((5.0,), distribution="constant"), [Estimate((0.0,), distribution="constant")], Verdict.HOLDS),
        (Estimate((5.0, 5.0, 5.0)), [FAILING], Verdict.UNDECIDED),
        (Estimate((5.0, 5.0, 5.0), why_equal="a count"), [FAILING], Verdict.HOLDS),
    ],
)
def test_verdict_follows_from_measured_value_and_controls(measured, controls, verdict):
    assert agreement(measured, *controls).verdict is verdict


def test_a_criterion_can_require_small_numbers():
    criterion = Criterion("an error", "<=", 1e-6, "because")
    errors = {True: (1e-8, 2e-8, 1e-9), False: (1e-4, 2e-5, 5e-5), None: (1e-7, 1e-5, 1e-8)}
    for met, values in errors.items():
        assert criterion.met_by(Estimate(values, distribution="lognormal")) is met


@pytest.mark.parametrize("num", range(3, 6))
def test_errors_that_span_a_decade_far_below_the_threshold_hold_for_three_seeds_and_for_more(num):
    errors = (4.2e-9, 2.3e-9, 1.6e-9, 1.5e-9, 1.3e-8)
    criterion = Criterion("largest error", "<=", 1e-6, "because")
    assert criterion.met_by(Estimate(errors[:num], distribution="lognormal")) is True


@pytest.mark.parametrize(
    ("measured", "controls", "parts"),
    [
        (Estimate((5.0,)), [FAILING], ("The measured number is known for 1 seed,", "it takes 3")),
        (Estimate((1.0, 1.3, 1.2)), [FAILING], ("contains the threshold", "these 3 seeds, about 10 in all")),
        (Estimate((0.9, 1.1, 1.0)), [FAILING], ("more than 1,000 would be needed",)),
        (Estimate((5.0,) * 4), [FAILING], ("is the same for all 4 seeds", "the claim must explain it")),
        (
            Estimate((5.0, 6.0)),
            [Estimate((0.0, 1.0))] * 2,
            ("The measured number and 2 controls are known for fewer than 3 seeds, which do not show their spread",),
        ),
        (PASSING, [PASSING], ("The control (control 0) meets the criterion too", "another test, not more seeds")),
        (PASSING, [STRADDLING], ("interval of the control (control 0) contains the threshold",)),
        (PASSING, [], ("There is no control",)),
    ],
)
def test_an_undecided_claim_says_why_and_what_would_settle_it(measured, controls, parts):
    reason = agreement(measured, *controls).why_undecided
    assert all(part in reason for part in parts), reason
    assert reason.endswith(".")


@pytest.mark.parametrize("measured", [PASSING, FAILING])
def test_a_number_that_is_only_a_bound_leaves_a_claim_undecided_with_that_reason(measured):
    bound = replace(agreement(measured, FAILING), censored="no network learned the law")
    assert bound.verdict is Verdict.UNDECIDED
    assert bound.why_undecided == "No network learned the law."


@pytest.mark.parametrize("measured", [PASSING, FAILING])
def test_a_decided_claim_has_no_reason_for_being_undecided(measured):
    assert agreement(measured, FAILING).why_undecided == ""


@pytest.mark.parametrize(
    ("values", "distribution", "reason"),
    [
        ((1e-9, -1e-9), "lognormal", "negative"),
        ((0.0, 0.5), "binary", "0 or 1"),
        ((1.0, 1.1), "constant", "the same for every seed"),
    ],
)
def test_values_that_contradict_their_distribution_are_refused(values, distribution, reason):
    with pytest.raises(ValueError, match=reason):
        Estimate(values, distribution=distribution)


def test_an_estimate_of_an_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match=r"`distribution` is 'lognromal'; .* did you mean 'lognormal'"):
        Estimate((1.0, 2.0, 3.0), distribution="lognromal")


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
        findings=(Finding("depth", PASSING, "a comment"), Finding("exact", Estimate((1.0,), "", "constant"))),
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


@pytest.mark.parametrize(
    ("relation", "threshold"), [("<", 1.0), ("=>", 1.0), ("", 1.0), ("<=", math.nan), (">=", math.inf)]
)
def test_criterion_with_another_relation_or_without_a_number_is_refused(relation, threshold):
    with pytest.raises(InvalidArgument, match="Criterion"):
        Criterion("an error", relation, threshold, "because")
