"""A fixed number of inputs of each kind, the same in every run; ``python tests/fuzz.py`` sends 10,000."""

import math
import time

import pytest
import torch

import fuzz
from fuzz_arguments import Case
from joma.errors import BadInput

BUDGET = {"arguments": 300, "words": 50, "weights": 40, "files": 10, "kept": 8, "hub": 12}


@pytest.mark.parametrize(("kind", "num"), BUDGET.items())
def test_every_input_ends_in_an_answer_or_in_an_error_of_joma(kind, num):
    outcomes = []
    fuzz.each(kind, num, 0, lambda case, outcome: outcomes.append((case.text, outcome)), lambda case: None)
    results = [outcome.result for _, outcome in outcomes]
    assert ({"refused"} if kind == "files" else {"answered", "refused"}) <= set(results)
    assert not [(outcome.why, text) for text, outcome in outcomes if outcome.result == "fault"]


def test_every_kind_has_a_budget():
    assert BUDGET.keys() == fuzz.SHARES.keys()


def judged(run, kind="arguments", is_finite=True) -> str:
    outcome = fuzz.judged(Case(kind, "", run, is_finite))
    return f"{outcome.result}: {outcome.why}"


def refuse():
    raise BadInput("no", expected="yes", remedy="go on")


def test_answers_and_errors_of_joma_are_no_faults():
    assert judged(lambda: torch.ones(3)).startswith("answered")
    assert judged(refuse).startswith("refused: no")
    assert judged(lambda: torch.tensor(math.nan), is_finite=False).startswith("answered")


def test_tracebacks_and_nan_from_finite_numbers_are_faults():
    assert judged(lambda: 1 / 0).startswith("fault: traceback: ZeroDivisionError")
    assert judged(lambda: [1.0, (torch.tensor([1.0, math.nan]),)]) == "fault: NaN from finite numbers"
    assert judged(lambda: print("v is nan") or 0, "words") == "fault: NaN in what is printed"
    assert judged(lambda: 2, "words") == "fault: status 2 without a reason"


def test_what_takes_too_long_or_too_much_memory_is_a_fault(monkeypatch):
    monkeypatch.setattr(fuzz, "LONGEST_S", 0.1)
    assert judged(lambda: time.sleep(5)).startswith("fault: endless")
    peaks = iter([0, 2 * 10**9, 2 * 10**9])
    monkeypatch.setattr(fuzz, "_peak_bytes", lambda: next(peaks))
    assert judged(lambda: 1) == "fault: memory: 2.0 GB more"
