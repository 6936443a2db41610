"""Evaluation of claims of other packages: saved results, repeated evaluations, and errors."""

import errno
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_recipe, tiny_tokens

from joma.claims.claim import Claim, Reference
from joma.claims.evaluation import evaluate, measurements, prepare
from joma.claims.registry import all_claims
from joma.claims.workspace import Workspace
from joma.errors import BadInput
from joma.provenance import code_digest
from joma.serialization import sealed, unsealed
from joma.train.training import train

FOREIGN = Claim(
    Reference("lucky.heads", "A coin shows heads.", "made up", ("a coin",), "P = 1/2"),
    "Toss it.",
    "Do not toss it.",
    "lucky_draws.coin:evaluate",
    origin="lucky-draws 1.2",
)
EVALUATE = """
from joma.records import Agreement, Control, Criterion, Estimate

def evaluate(workspace):
    {first}
    return Agreement(
        Criterion("share of heads", ">=", 0.4, "half, less what luck does"),
        Estimate(({value},)),
        (Control("not tossed", Estimate((0.0,))),),
        "A tossed coin shows heads.",
    )
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package without a test function, importable only in this test."""
    folder = tmp_path / "site" / "lucky_draws"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    code_digest.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "lucky_draws"]:
        del sys.modules[name]


def outcomes(tmp_path):
    """The outcomes of a claim of joma and of a claim of the package, evaluated as in a new process."""
    code_digest.cache_clear()
    return {
        outcome.claim.id: outcome
        for outcome in evaluate([all_claims()["theorem2"], FOREIGN], Workspace(tmp_path / "out", num_seeds=2))
    }


def test_only_claims_of_a_changed_package_are_evaluated_again(package, tmp_path):
    (package / "coin.py").write_text(EVALUATE.format(first="pass", value=0.5))
    assert [outcome.remembered for outcome in outcomes(tmp_path).values()] == [False, False]
    assert [outcome.remembered for outcome in outcomes(tmp_path).values()] == [True, True]
    (package / "helper.py").touch()
    found = outcomes(tmp_path)
    assert found["theorem2"].remembered
    assert not found["lucky.heads"].remembered
    assert found["lucky.heads"].agreement.measured.values == (0.5,)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "ImportError: lucky_draws.coin:evaluate cannot be imported (ModuleNotFoundError"),
        ("import no_such_package", "cannot be imported (ModuleNotFoundError: No module named 'no_such_package')"),
        ("open('no_such_file')", "cannot be imported (FileNotFoundError"),
        (EVALUATE.format(first="open('no_such_file')", value=0.5), "FileNotFoundError"),
        (EVALUATE.format(first="return 0.5", value=0.5), "TypeError: lucky_draws.coin:evaluate returned 0.5"),
        (EVALUATE.format(first="import numpy", value="numpy.float32(0.5)"), "float32 is not JSON serializable"),
    ],
)
def test_error_in_a_package_is_the_reason_of_its_claim(package, tmp_path, source, reason):
    if source is not None:
        (package / "coin.py").write_text(source)
    found = outcomes(tmp_path)
    assert found["theorem2"].agreement
    assert found["lucky.heads"].agreement is None
    assert reason in found["lucky.heads"].error
    assert reason.split("(")[0] in (tmp_path / "out" / "evidence" / "lucky.heads.error.txt").read_text()
    assert not (tmp_path / "out" / "evidence" / "lucky.heads.json").exists()


def test_missing_package_skips_the_claim_and_the_next_run_tries_again(package, tmp_path):
    (package / "coin.py").write_text(
        "from joma.extras import extra\n"
        "def evaluate(workspace):\n"
        "    extra('no_such_package', 'coins need it', name='coins')\n"
    )
    (found,) = (outcome for id, outcome in outcomes(tmp_path).items() if id == "lucky.heads")
    assert not found.error
    assert "pip install 'joma[coins]'" in found.skipped
    assert not (tmp_path / "out" / "evidence" / "lucky.heads.json").exists()


def test_full_disk_is_raised_and_not_recorded_as_an_error_of_the_claim(package, tmp_path):
    (package / "coin.py").write_text(EVALUATE.format(first=f"raise OSError({errno.ENOSPC}, 'no space')", value=0.5))
    with pytest.raises(OSError, match="no space"):
        outcomes(tmp_path)


TRAINING = """
from dataclasses import replace

from tiny import tiny_law, tiny_law_recipe

def train(workspace, *networks):
    recipes = [replace(tiny_law_recipe(num_steps=10, learning_rate=rate), name=name) for name, rate in networks]
    return workspace.train_on([(recipe, tiny_law()) for recipe in recipes])
"""


def training_claim(package, name, *networks):
    """A claim that trains networks, one name and learning rate each, in one call for each argument."""
    calls = "; ".join(f"train(workspace, *{list(together)!r})" for together in networks)
    source = TRAINING + EVALUATE.format(first=calls, value=0.5)
    (package / f"{name}.py").write_text(source)
    reference = Reference(f"lucky.{name}", "A coin shows heads.", "made up", ("a coin",), "P = 1/2")
    return Claim(reference, "Toss it.", "Do not toss it.", f"lucky_draws.{name}:evaluate", origin="lucky-draws 1.2")


def test_networks_of_several_claims_are_trained_in_one_call_and_each_claim_has_its_share(package, tmp_path):
    trained = []

    def note(what, done, total):
        trained.append(what)

    one = training_claim(package, "one", [("a", 1e-3), ("b", 1e-3)])
    two = training_claim(package, "two", [("b", 1e-3), ("c", 1e-3)], [("d", 1e-3)])
    none = all_claims()["theorem2"]
    start = time.perf_counter()
    found = list(evaluate([one, two, none], Workspace(tmp_path / "out", num_seeds=2, num_workers=1, progress=note)))
    elapsed = time.perf_counter() - start
    assert [outcome.claim.id for outcome in found] == ["theorem2", "lucky.one", "lucky.two"]
    assert all(outcome.agreement for outcome in found)
    calls = [what for what in dict.fromkeys(trained) if what.startswith("training")]
    assert calls[0] == "training 3 networks"
    assert "training 1 network" in calls
    assert found[1].seconds > 0
    assert sum(outcome.seconds for outcome in found) <= elapsed
    assert sorted(run.name for run in (tmp_path / "out" / "runs").iterdir()) == ["a", "b", "c", "d"]


def test_claims_without_networks_are_evaluated_next_to_training_with_the_same_numbers(package, tmp_path):
    asking = replace(training_claim(package, "asking", [("a", 1e-3), ("b", 1e-3)]), needs_text=True)
    claims = [all_claims()["theorem2"], asking, all_claims()["theorem5"], FOREIGN]
    (package / "coin.py").write_text(EVALUATE.format(first="pass", value=0.5))
    said = []
    found = {
        num: list(
            evaluate(
                claims,
                Workspace(
                    tmp_path / f"out-{num}", num_seeds=2, num_workers=num, progress=lambda what, *_: said.append(what)
                ),
            )
        )
        for num in (1, 2)
    }
    assert "training 2 networks, evaluating 2 more claims" in said
    for outcomes_found in found.values():
        assert {outcome.claim.id for outcome in outcomes_found} == {claim.id for claim in claims}
        assert outcomes_found[-1].claim.id == "lucky.asking"
        assert all(outcome.agreement and outcome.seconds > 0 for outcome in outcomes_found)
    one, two = ({outcome.claim.id: outcome.agreement for outcome in each} for each in found.values())
    assert one == two


def test_a_network_that_fails_is_an_error_of_its_claim_alone(package, tmp_path):
    good = training_claim(package, "good", [("a", 1e-3)])
    bad = training_claim(package, "bad", [("b", 1e30)])
    found = {
        outcome.claim.id: outcome
        for outcome in evaluate([bad, good], Workspace(tmp_path / "out", num_seeds=2, num_workers=1))
    }
    assert found["lucky.good"].agreement
    assert "no number" in found["lucky.bad"].error or "NaN" in found["lucky.bad"].error


EVIDENCE = "lucky.heads.json"


@pytest.fixture
def evidence(package, tmp_path):
    """The file of evidence of a claim that was evaluated."""
    (package / "coin.py").write_text(EVALUATE.format(first="pass", value=0.53125))
    outcomes(tmp_path)
    return tmp_path / "out" / "evidence" / EVIDENCE


@pytest.mark.parametrize(("old", "new"), [("0.53125", "0.13125"), ("A tossed", "A lossed"), ('"crc32"', '"crc31"')])
def test_changed_evidence_is_made_again_with_a_warning(evidence, tmp_path, old, new):
    before = evidence.read_text()
    evidence.write_text(before.replace(old, new, 1))
    assert evidence.read_text() != before
    with pytest.warns(UserWarning, match=f"{EVIDENCE} is damaged .*checksum.* evaluated again"):
        found = outcomes(tmp_path)["lucky.heads"]
    assert not found.remembered
    assert found.agreement.measured.values == (0.53125,)


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": "long"},
        {"seconds": None},
        {"agreement": None},
        {"agreement": []},
        {"code": 3},
        {"conclusion": None},
        {"charts": "x"},
        {"charts": [3]},
        {"notes": [["x"]]},
        {"measured": {"values": [], "unit": ""}},
        {"measured": {"values": ["1"], "unit": ""}},
        {"controls": {}},
        {"criterion": {"quantity": "q", "relation": "==", "threshold": 1, "reason": "r"}},
        {"opinion": "x"},
    ],
)
def test_evidence_of_another_shape_with_a_right_checksum_is_made_again_with_a_warning(evidence, tmp_path, change):
    record = unsealed(json.loads(evidence.read_text()))
    inner = {name: value for name, value in change.items() if name not in record}
    record |= change if not inner else {"agreement": record["agreement"] | inner}
    evidence.write_text(json.dumps(sealed(record)))
    with pytest.warns(UserWarning, match=f"{EVIDENCE} is damaged"):
        found = outcomes(tmp_path)["lucky.heads"]
    assert found.agreement.measured.values == (0.53125,)


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"x"', b"{}", b"[" * 100_000, b"\xff\x00", b""])
def test_files_of_other_content_are_refused_or_made_again(evidence, tmp_path, content):
    evidence.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{EVIDENCE} is damaged"):
        assert not outcomes(tmp_path)["lucky.heads"].remembered
    workspace = Workspace(tmp_path / "out", num_seeds=2)
    (tmp_path / "out" / "settings.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"settings\.json|evidence made with profile = None") as refused:
        prepare([FOREIGN], workspace)
    assert "`out`, or delete this one" in refused.value.remedy


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An output folder with one trained network."""
    folder = tmp_path_factory.mktemp("trained")
    train(tiny_recipe(num_steps=10), tiny_tokens(), folder / "runs" / "tiny")
    return folder


def empty(path):
    path.write_bytes(b"")


def without_its_last_line(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.jsonl", Path.unlink),
        ("metrics.jsonl", empty),
        ("metrics.jsonl", without_its_last_line),
        ("config.json", Path.unlink),
        ("config.json", empty),
    ],
)
def test_run_that_lost_measurements_is_left_out_of_the_table_with_a_warning(trained, tmp_path, name, damage):
    folder = shutil.copytree(trained, tmp_path / "out")
    (folder / "runs" / "never-started").mkdir()
    assert {row.run for row in measurements(folder)} == {"tiny"}
    damage(folder / "runs" / "tiny" / name)
    with pytest.warns(
        UserWarning, match=f"tiny is left out of the metrics table: .*{name}.*; remove .*tiny and .*evidence"
    ):
        assert not list(measurements(folder))
