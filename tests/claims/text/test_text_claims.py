"""The claims on text, end to end on a short training run of the real network."""

import math

import pytest

from conclusions import faults
from joma.claims.registry import all_claims
from joma.claims.text import first_dip, networks
from joma.claims.text.mechanism import LEFT
from joma.claims.text.networks import Study, moved
from joma.claims.workspace import Profile, TextChoice, Workspace

IDS = ("text.sparse_then_dense", "text.first_dip", "text.mechanism", "text.rank_drop", "text.theorem1")


@pytest.fixture(scope="module")
def agreements(tmp_path_factory, wikitext_folder):
    patch = pytest.MonkeyPatch()
    patch.setenv("JOMA_DATA", str(wikitext_folder))
    patch.setitem(networks.STUDIES, Profile.QUICK, Study(100, 1e-3, 5, 2))
    patch.setattr(first_dip, "EARLY", 0.02)
    patch.setitem(first_dip.MORE_SEEDS, Profile.QUICK, 0)
    # one worker: starting processes for each claim would take longer than training
    workspace = Workspace(tmp_path_factory.mktemp("text claims"), text=TextChoice("wikitext2", 300), num_workers=1)
    yield {id: all_claims()[id].load()(workspace) for id in IDS}
    patch.undo()


@pytest.mark.parametrize("id", IDS)
def test_claim_is_evaluated_with_controls_findings_and_pictures(agreements, id):
    agreement = agreements[id]
    assert agreement.measured.num == 2
    assert agreement.controls
    assert agreement.charts
    assert agreement.conclusion
    assert all(math.isfinite(value) for finding in agreement.findings for value in finding.estimate.values)


def test_sparse_then_dense_has_controls_of_order_and_of_words(agreements):
    names = [control.name for control in agreements["text.sparse_then_dense"].controls]
    assert any("random order" in name for name in names)
    assert any("shuffled words" in name for name in names)


def test_first_dips_are_compared_seed_by_seed(agreements):
    agreement = agreements["text.first_dip"]
    found = {finding.name: finding.estimate.values for finding in agreement.findings}
    real, informed, shuffled, uniform = list(found.values())[:4]
    order = next(control for control in agreement.controls if "order" in control.name)
    for estimate, one, other in (
        (agreement.measured, shuffled, uniform),
        (agreement.findings[4].estimate, real, informed),
        (order.estimate, real, shuffled),
    ):
        assert estimate.values == pytest.approx([a - b for a, b in zip(one, other, strict=True)])


def test_the_mechanism_is_compared_with_the_theorys_own_curves(agreements):
    (theory,) = [f for f in agreements["text.mechanism"].findings if f.name.startswith("theory")]
    assert theory.estimate.mean < LEFT


def test_the_rank_starts_at_that_of_an_initialised_network(agreements):
    (start,) = [f for f in agreements["text.rank_drop"].findings if f.name == "full network: at the start"]
    assert 40 < start.estimate.mean < 60


@pytest.mark.parametrize("id", IDS)
def test_conclusions_are_plain(agreements, id):
    assert not faults(agreements[id].conclusion)


def test_the_lead_chart_shows_the_levels_and_the_movements_that_its_caption_names(agreements):
    agreement = agreements["text.sparse_then_dense"]
    lead, means = agreement.charts[0], {finding.name: finding.estimate.mean for finding in agreement.findings}
    assert f"attention entropy {moved(means['fall'], means['rise after it'], ' nats')} on real text" in lead.caption
    names = ["real text", "shuffled words", "read from real text", "read from shuffled words"]
    assert [curve.label for curve in lead.curves] == names
    levels = lead.curves[2].y
    start, _, bottom, _, end, _ = levels
    assert start - bottom == pytest.approx(means["fall"])
    assert end - bottom == pytest.approx(means["rise after it"])
    at = {mark.text: mark.at for mark in lead.marks}
    assert at["sparsest"] == pytest.approx(means["step of the bottom"])


def test_theorem_1_is_read_from_snapshots_and_its_chart_shows_every_word_with_the_commonest_named(agreements):
    correlation, words = agreements["text.theorem1"].charts
    measured = correlation.curves[0]
    assert measured.x == tuple(range(10, 101, 10))
    everything, *named = words.curves
    assert not everything.joined
    assert 100 < len(everything.x) < 300
    assert [len(curve.x) for curve in named] == [1] * 4
    assert "“the”" in [curve.label for curve in named]
    assert "“<unk>”" not in [curve.label for curve in named]
