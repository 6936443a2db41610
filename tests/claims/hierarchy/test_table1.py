"""hierarchy.table1: the paper's score is high even before training, so that it cannot support its claim."""

import itertools
from dataclasses import replace

import pytest
import torch

from conclusions import faults
from joma.claims.hierarchy import table1 as hierarchy_table1
from joma.claims.hierarchy.table1 import CORNER, GRID, SIZES, Cell, evaluate, every_input
from joma.claims.workspace import Profile, Workspace
from joma.problem.combinatorial import ambiguous_labels
from joma.records import Verdict


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    return evaluate(Workspace(tmp_path_factory.mktemp("claims"), num_seeds=3))


@pytest.mark.slow
def test_untrained_network_meets_the_criterion(agreement):
    assert agreement.criterion.met_by(agreement.controls[0].estimate)
    assert agreement.verdict is Verdict.UNDECIDED


@pytest.mark.slow
def test_held_out_score_equals_the_score_if_both_halves_have_the_same_inputs(agreement, tolerance):
    held_out = next(finding for finding in agreement.findings if finding.name.startswith("score held-out"))
    assert held_out.estimate.values == pytest.approx(agreement.measured.values, abs=tolerance("hierarchy.same_inputs"))


@pytest.mark.slow
def test_score_grows_with_the_number_of_units_and_every_cell_has_a_curve(tmp_path, monkeypatch):
    cells = (CORNER, Cell(30, 2, (10, 20)))
    small = replace(SIZES[Profile.QUICK], cells=cells, width=16, hidden=128, num_steps=5, num_permutations=3)
    monkeypatch.setitem(hierarchy_table1.SIZES, Profile.QUICK, small)
    agreement = evaluate(Workspace(tmp_path, num_seeds=2))
    assert not faults(agreement.conclusion)
    units, grid = agreement.charts
    for curve in units.curves:
        assert list(curve.x) == [16, 64, 128]
        assert all(one <= two for one, two in itertools.pairwise(curve.y))
    assert [list(curve.x) for curve in grid.curves] == [[20, 30], [20, 30]]
    assert sum(str(cell) in finding.name for cell in cells for finding in agreement.findings) == 8


def test_grid_is_that_of_the_paper():
    assert len(set(GRID)) == 12
    assert {cell.level_sizes for cell in GRID} == {(10, 20), (20, 30)}
    assert all(cell.law(0).num_labels == cell.num_classes and cell.law(0).length == 30 for cell in GRID)


def test_every_input_occurs_once_in_each_half():
    law = CORNER.law(1, distinct=True)
    tokens, presence, labels = every_input(law)
    assert torch.equal(tokens[: law.num_labels], tokens[law.num_labels :])
    assert torch.equal(labels.bincount(), torch.full((law.num_labels,), 2))
    assert len(tokens.unique(dim=0)) == law.num_labels
    assert [level.shape[1] for level in presence] == list(law.level_sizes)


def test_paper_has_classes_with_the_same_tokens_which_can_be_avoided():
    assert ambiguous_labels(CORNER.law(1))
    assert not ambiguous_labels(CORNER.law(1, distinct=True))
