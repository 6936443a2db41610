"""The order of association, end to end on small trees, and the exact predictions for it."""

import numpy as np
import pytest

from conclusions import faults
from joma.claims.hierarchy import order as hierarchy_order
from joma.claims.hierarchy.order import Sizes, predictions, tree
from joma.claims.workspace import Profile, Workspace
from joma.problem.tree import balanced_tree
from joma.records import Verdict
from joma.theory.hierarchy import cooccurrence

SMALL = Sizes((2, 2, 2), 20, 1e-3, 5, 256, 2)


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setitem(hierarchy_order.SIZES, Profile.QUICK, SMALL)
    yield hierarchy_order.evaluate(Workspace(tmp_path_factory.mktemp("claims")))
    patch.undo()


def test_claim_is_evaluated_with_controls_findings_and_pictures(agreement):
    assert agreement.measured.num == SMALL.num_seeds
    assert len(agreement.controls) == 2
    assert agreement.conclusion
    assert [chart.id for chart in agreement.charts] == ["course", "heights", "flow"]
    assert all(np.isfinite(curve.y).all() for chart in agreement.charts for curve in chart.curves)


def test_with_a_constant_gradient_the_order_is_that_of_cooccurrence(agreement):
    found = {finding.name: finding.estimate.mean for finding in agreement.findings}
    assert found["flow with a constant gradient: co-occurrence"] > 0.8
    assert found["decoder, at the end: spread of the logits' movements"] > 0


def test_decoder_after_twenty_batches_leaves_the_claim_undecided(agreement):
    assert agreement.verdict is not Verdict.HOLDS


def test_cooccurrence_equals_theorem_5_if_polarities_are_equal(tolerance):
    found = predictions(balanced_tree((2, 2, 2), (0.6, 0.7, 0.7))).cooccurrence
    # averaged over both labels, since P(label | token) = P(token | label)
    joint = [cooccurrence(0.7, 0.6, 3, 2, sign) * (1 + sign * 0.7**2 * 0.6) / 2 for sign in (-1, 1)]
    assert found[0, 2] == pytest.approx(sum(map(float, joint)), abs=tolerance("closed_form.sums"))


def test_a_common_ancestor_cancels_in_the_label_gradient_and_lowers_the_label_covariance(tolerance):
    law, means = tree(SMALL, 4), []
    for leaf in law.leaves:
        mean, node = 1.0, leaf
        while node:
            mean, node = mean * law.polarities[node], law.parents[node]
        means.append(mean)
    token, query = np.array(means), np.array(means)[:, None]
    found, others = predictions(law), ~np.eye(8, dtype=bool)
    bound = tolerance("closed_form.sums")
    np.testing.assert_allclose(found.gradient[others], ((token + query) / 2)[others], atol=bound)
    product = 2 * found.cooccurrence - 1
    np.testing.assert_allclose(found.covariance[others], ((token - query * product) / 4)[others], atol=bound)


def test_no_two_pairs_of_a_query_co_occur_equally_often():
    table = predictions(tree(SMALL, 0)).cooccurrence
    for query, row in enumerate(table):
        assert len(set(np.delete(row, query).round(6))) == len(row) - 1


def test_the_conclusion_is_plain(agreement):
    assert not faults(agreement.conclusion)
