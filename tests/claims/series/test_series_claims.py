"""The two claims on series of saved steps, end to end on short trainings on real text."""

import math
import re

import numpy as np
import pytest

from conclusions import faults
from joma.claims.registry import all_claims
from joma.claims.series import subjects as series
from joma.claims.series.subject import Subject, in_random_order, smallest
from joma.claims.series.subjects import subjects
from joma.claims.workspace import Profile, TextChoice, Workspace
from joma.errors import RunFailed
from joma.measure.scan.results import Row, StepResult
from joma.train.series import SeriesRecipe

IDS = ("series.sparse_then_dense", "series.rank_drop_and_rebound")
TINY = SeriesRecipe(num_steps=112, save_every=8, learning_rate=1e-2, num_layers=1, width=32, length=32)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(series, "TRAINED", TINY)
    yield Workspace(tmp_path_factory.mktemp("series claims"), num_seeds=2, text=TextChoice(vocabulary_size=300))
    patch.undo()


@pytest.fixture(scope="module")
def agreements(workspace):
    return {id: all_claims()[id].load()(workspace) for id in IDS}


@pytest.mark.parametrize("id", IDS)
def test_claim_is_evaluated_for_both_families_with_controls_findings_and_pictures(agreements, id):
    agreement = agreements[id]
    assert agreement.measured.num == 2
    assert agreement.controls
    for family in ("gpt_neox", "opt"):
        assert any(family in chart.id for chart in agreement.charts)
    assert all(math.isfinite(value) for finding in agreement.findings for value in finding.estimate.values)


def test_the_second_claim_reuses_what_the_first_one_trained_and_measured(agreements, workspace):
    before = {path: path.stat().st_mtime_ns for path in (workspace.folder / "series").rglob("*") if path.is_file()}
    again = subjects(Workspace(workspace.folder, Profile.QUICK, 2, workspace.text))
    assert [subject.name for subject in again.models] == ["GPT-NeoX", "OPT"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_both_families_learn_more_than_word_frequencies(agreements):
    findings = agreements["series.sparse_then_dense"].findings
    beyond = [finding.estimate for finding in findings if "minus that of word frequencies" in finding.name]
    assert len(beyond) == 2
    assert all(value < 0 for estimate in beyond for value in estimate.values)


def made(curves, layers: int = 1) -> Subject:
    """A model with the given entropy, (repetitions, steps), in every layer."""
    scans = tuple(
        tuple(
            StepResult(
                step,
                tuple(
                    Row(layer, head, None, "entropy", value, "sequences_0")
                    for layer in range(layers)
                    for head in (0, 1)
                ),
                "",
                0.0,
                0,
                0,
            )
            for step, value in enumerate(curve)
        )
        for curve in curves
    )
    return Subject("made", scans, (1.0,) * len(scans), ())


def entropies(subject: Subject):
    return [subject.course("entropy", layer) for layer in subject.layers]


def test_the_deciding_number_is_that_of_the_model_with_the_smaller_change():
    valley = np.abs(np.linspace(-1, 1, 21))
    deep, shallow = made([valley, valley], layers=2), made([valley / 4, valley / 2])
    assert smallest([deep, shallow], entropies) == pytest.approx(smallest([shallow], entropies))
    assert smallest([deep], entropies)[0] > 3 * smallest([shallow], entropies)[0] > 0
    only_falls = made([np.linspace(1, 0, 21)] * 2)
    assert max(smallest([deep, only_falls], entropies)) <= 0
    assert max(in_random_order([deep], entropies)) < smallest([deep], entropies)[0] / 2


def test_groups_of_probe_sequences_are_the_repetitions_of_a_single_series():
    rows = tuple(
        Row(0, head, None, "entropy", group + head, f"sequences_{group}") for group in (0, 1, 2) for head in (0, 1)
    )
    subject = Subject("one", ((StepResult(0, rows, "", 0.0, 0, 0),),), (1.0,), ())
    assert subject.course("entropy", 0).values[:, 0].tolist() == [0.5, 1.5, 2.5]


def test_a_model_that_learned_nothing_is_refused():
    rows = (Row(None, None, None, "val_loss_nats", 5.0, "sequences_0"),)
    subject = Subject("idle", ((StepResult(0, rows, "", 0.0, 0, 0),),), (4.0,), ())
    with pytest.raises(RunFailed, match="at no step"):
        subject.frequencies_learned()


@pytest.mark.parametrize("id", IDS)
def test_the_conclusion_gives_fall_and_rise_of_each_model(agreements, id):
    moves = r"in (\S+) it (?:falls by \d\.\d{3}|does not fall) and (?:rises by \d\.\d{3}|does not rise)"
    assert re.findall(moves, agreements[id].conclusion) == ["GPT-NeoX", "OPT"]


@pytest.mark.parametrize("id", IDS)
def test_conclusions_are_plain(agreements, id):
    assert not faults(agreements[id].conclusion)
