"""Other packages can add claims to the registry; a broken package gives a warning."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import metadata
from pathlib import Path

import pytest

from joma.claims import registry
from joma.claims.registry import OWN

OWN_IDS = [claim.id for claim in OWN]


def listed(folder: Path) -> tuple[list[dict], list[str]]:
    """The output of ``joma reproduce --list --json`` with a folder on the path, and the lines of its warnings."""
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "joma", "reproduce", "--list", "--json"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), [line for line in done.stderr.splitlines() if line.startswith("joma: ")]


@pytest.mark.parametrize(
    ("claims", "ids"),
    [("claim('lucky.heads')", ["lucky.heads"]), ("[claim('lucky.b'), claim('lucky.a')]", ["lucky.b", "lucky.a"])],
    ids=["a claim", "a sequence of claims"],
)
def test_claims_of_a_package_follow_those_of_joma_and_name_their_origin(install, claims, ids):
    found, warnings = listed(install(f"CLAIMS = {claims}"))
    assert [claim["id"] for claim in found] == OWN_IDS + ids
    assert {claim["origin"] for claim in found[: len(OWN)]} == {"joma"}
    assert {claim["origin"] for claim in found[len(OWN) :]} == {"lucky-draws 1.2"}
    assert not warnings


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module 'lucky' has no attribute 'CLAIMS'"),
        ("CLAIMS = 3", "TypeError: 3 is no Claim"),
        ("CLAIMS = [claim('lucky.heads'), 'lucky.tails']", "TypeError: 'lucky.tails' is no Claim"),
        ("CLAIMS = claim('theorem1.exp')", "ValueError: there is another claim theorem1.exp"),
        ("CLAIMS = 2 * [claim('lucky.heads')]", "ValueError: there is another claim lucky.heads"),
        ("CLAIMS = claim('../lucky')", "InvalidArgument: Reference: `id` is '../lucky'"),
        ("CLAIMS = claim('lucky.heads', 'lucky')", "InvalidArgument: Claim: `evaluate` is 'lucky'"),
    ],
)
def test_broken_package_gives_one_warning_with_its_name_and_the_reason(install, source, reason):
    found, warnings = listed(install(source))
    assert [claim["id"] for claim in found] == OWN_IDS
    assert {claim["origin"] for claim in found} == {"joma"}
    (warning,) = warnings
    assert warning.startswith("joma: lucky-draws 1.2 is left out: its entry point heads = lucky:CLAIMS cannot be used")
    assert reason in warning


def test_of_two_packages_with_the_same_id_the_first_by_name_is_used(install):
    install("CLAIM = claim('lucky.heads')", "zebra", "zebra:CLAIM")
    found, warnings = listed(install("CLAIM = claim('lucky.heads')", "aardvark", "aardvark:CLAIM"))
    assert [(claim["id"], claim["origin"]) for claim in found[len(OWN) :]] == [("lucky.heads", "aardvark 1.2")]
    (warning,) = warnings
    assert "zebra 1.2 is left out" in warning


def test_without_a_name_the_claims_by_default_are_selected_and_all_selects_every_one(monkeypatch):
    claims = {one.id: one for one in (replace(OWN[0], by_default=False), *OWN[1:3])}
    monkeypatch.setattr(registry, "all_claims", lambda: claims)
    assert registry.select([]) == list(OWN[1:3])
    assert registry.select(["all"]) == list(claims.values())
    assert registry.select([OWN[0].id]) == [claims[OWN[0].id]]


def test_every_extra_that_a_claim_names_exists():
    named = {claim.extra for claim in OWN if claim.extra}
    assert named == {"images", "ratings"}
    assert named <= set(metadata("joma").get_all("Provides-Extra") or ())
