import numpy as np
import pandas
import pytest

from joma.errors import BadInput
from joma.measure.trees.coding import coding_of
from joma.tables.columns import read_table

X = np.random.default_rng(0).normal(size=500)


def test_bins_hold_about_equally_many_rows():
    table = read_table(pandas.DataFrame({"x": X, "y": X}))
    codes = coding_of(table, 5).codes(table)
    assert np.bincount(codes[:, 0]).tolist() == [100] * 5


def test_few_different_numbers_keep_a_code_each():
    table = read_table(pandas.DataFrame({"x": [0, 1, 1, 5] * 20, "y": [1, 2, 3, 3] * 20}))
    assert coding_of(table, 4).codes(table)[:4].tolist() == [[0, 0], [1, 1], [1, 2], [2, 2]]


def test_many_equal_numbers_leave_two_bins():
    table = read_table(pandas.DataFrame({"x": [0.0] * 95 + list(range(1, 6)), "y": X[:100]}))
    codes = coding_of(table, 4).codes(table)[:, 0]
    assert sorted(np.unique(codes)) == [0, 1]
    assert (codes == 0).sum() == 95


def test_new_values_and_missing_ones_have_codes_of_their_own():
    learned = read_table(pandas.DataFrame({"x": [0.0, 1, 2, 3] * 10, "c": ["a", "b", "a", "c"] * 10}))
    given = read_table(pandas.DataFrame({"c": ["z", "a", None, "a"], "x": [3.5, None, 5.0, -9.0]}))
    coding = coding_of(learned, 4)
    assert coding.codes(given).tolist() == [[3, 3], [-1, 0], [4, -1], [4, 0]]
    assert coding.columns[1].text(3) == "a value that was not there"
    assert coding.columns[0].text(1) == "1"  # the only value of this bin; 2 begins the next


@pytest.mark.parametrize("other", [{"x": X, "z": X}, {"x": X, "y": ["a", "b"] * 250}])
def test_a_table_with_other_columns_is_refused(other):
    coding = coding_of(read_table(pandas.DataFrame({"x": X, "y": X})))
    with pytest.raises(BadInput, match="no column 'y' of numbers"):
        coding.codes(read_table(pandas.DataFrame(other)))
