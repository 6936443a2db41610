import itertools

import pandas
import pyarrow
import pytest

from joma.records import Measurement
from joma.tidy import TYPES, early_and_even, frame_of, typed, write_frame

MEASUREMENTS = [
    Measurement("full, seed 0", 0, 0, 7, None, "attention_entropy_nats", 2.54),
    Measurement("full, seed 0", 100, None, None, None, "val_loss_nats", 6.5),
    Measurement("simulation", 100, 1, None, "mlp_lower", "stable_rank", float("inf")),
]
GROUPED = Measurement("scan", 3, 1, 0, None, "attention_entropy_nats", 1.5, "sequences_2")


def test_a_table_read_from_parquet_has_the_same_types_and_nulls(tmp_path):
    frame = frame_of(iter(MEASUREMENTS))
    again = pandas.read_parquet(write_frame(frame, tmp_path / "new" / "metrics.parquet"))
    pandas.testing.assert_frame_equal(again, frame)
    assert list(again) == ["run", "step", "layer", "head", "projection", "metric", "value"]
    assert str(again["head"].dtype) == "Int32"
    assert again["head"].isna().tolist() == [False, True, True]
    rows = [[None if value is pandas.NA else value for value in row] for row in again.itertuples(index=False)]
    assert rows == [list(row[:-1]) for row in MEASUREMENTS]


def test_the_group_column_exists_if_a_row_has_a_group():
    frame = frame_of([*MEASUREMENTS, GROUPED])
    assert frame["group"].tolist()[-1] == "sequences_2"
    assert frame["group"].isna().sum() == 3


def test_tables_of_different_sources_can_be_concatenated():
    both = pandas.concat([frame_of(MEASUREMENTS), frame_of([GROUPED])], ignore_index=True)
    assert {name: str(kind) for name, kind in both.dtypes.items()} == {name: TYPES[name] for name in both}


def test_no_measurements_give_an_empty_table(tmp_path):
    frame = frame_of([])
    assert len(frame) == 0
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {name: TYPES[name] for name in frame}
    assert len(pandas.read_parquet(write_frame(frame, tmp_path / "metrics.parquet"))) == 0


def test_columns_are_put_in_order_and_empty_optional_ones_left_out():
    frame = frame_of(MEASUREMENTS)
    assert list(typed(frame.iloc[:, ::-1].assign(reason=None))) == list(frame)


def test_a_write_that_fails_leaves_the_old_table(tmp_path):
    path = write_frame(frame_of(MEASUREMENTS), tmp_path / "metrics.parquet")
    before = path.read_bytes()
    with pytest.raises(pyarrow.ArrowException):
        write_frame(pandas.DataFrame({"value": [object()]}), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.parquet"]


@pytest.mark.parametrize(("num", "most"), [(1, 1), (2, 5), (7, 7), (100, 10), (100_000, 651), (3, 2), (5, 0)])
def test_some_indices_ascend_from_the_first_to_the_last(num, most):
    found = early_and_even(num, most).tolist()
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0, num - 1)
    assert len(found) <= max(most, 4)
    if num > most > 99:
        assert found[1] == 1
        assert max(b - a for a, b in itertools.pairwise(found)) <= 3 * num / most
