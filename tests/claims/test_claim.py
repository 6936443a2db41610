"""The fields of a claim are checked, and its test is imported on demand."""

from dataclasses import replace
from inspect import signature

import pytest

from joma.claims.claim import Claim
from joma.claims.registry import OWN
from joma.errors import InvalidArgument

CLAIM = OWN[0]


@pytest.mark.parametrize("claim", OWN, ids=lambda claim: claim.id)
def test_every_claim_of_joma_names_a_function_of_a_workspace(claim):
    assert list(signature(claim.load()).parameters) == ["workspace"]
    assert claim.test
    assert claim.control
    assert claim.package == claim.origin == "joma"


def test_claim_ids_are_unique():
    assert len({claim.id for claim in OWN}) == len(OWN)


@pytest.mark.parametrize("id", ["", "Theorem1", "theorem1.", "../evidence", "theorem 1", "a..b"])
def test_id_that_cannot_name_a_file_is_refused(id):
    with pytest.raises(InvalidArgument, match=r"`id` is .* names files; take family\.name"):
        replace(CLAIM.reference, id=id)


@pytest.mark.parametrize("evaluate", ["", "package", "package.module", "package:", "package module:function"])
def test_evaluate_without_module_and_function_is_refused(evaluate):
    with pytest.raises(InvalidArgument, match=r"expected 'package\.module:function'"):
        replace(CLAIM, evaluate=evaluate)


@pytest.mark.parametrize(
    ("evaluate", "reason"),
    [
        ("no_such_package.heads:evaluate", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("joma.claims.claim:missing", "AttributeError: module 'joma.claims.claim' has no attribute 'missing'"),
    ],
)
def test_failed_import_of_a_test_names_it_and_the_reason(evaluate, reason):
    claim = Claim(CLAIM.reference, CLAIM.test, CLAIM.control, evaluate)
    with pytest.raises(ImportError, match=rf"{evaluate} cannot be imported \({reason}\)"):
        claim.load()
