import decimal
import warnings

import numpy as np
import pandas
import pytest

from joma.errors import BadInput
from joma.tables.columns import read_like, read_table

X, Y = [1.0, 2.5, 3.0, 0.5], [2.0, 1.0, 4.0, 3.5]

LEFT_OUT = {
    "whole numbers beyond 2^53": ([2**53, 2**53 + 1, 2**53, 2**53 + 1], "in double precision"),
    "one whole number beyond 2^53": ([1e25] * 4, "in double precision"),
    "constant number": ([7, 7, 7, 7], "is constant"),
    "constant text": (["a", "a", None, "a"], "is constant"),
    "empty": ([None, None, None, None], "is empty"),
    "empty number": ([np.nan] * 4, "is empty"),
    "row number": ([0, 1, 2, 3], "numbers the rows"),
    "time": (pandas.date_range("2024-01-01", periods=4), "dates"),
    "duration": (pandas.to_timedelta([1, 2, 3, 5], unit="D"), "dates"),
    "date as text": (["2024-01-02", "2024-01-03", None, "2023-05-06"], "dates"),
    "free text": (["a long story", "another", "something else", "no more"], "free text"),
    "lists": ([[1], [2, 3], None, []], "neither numbers nor text"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_column_that_holds_no_relation_is_left_out_with_a_warning(kind):
    values, reason = LEFT_OUT[kind]
    frame = pandas.DataFrame({"x": X, "odd": values, "y": Y})
    with pytest.warns(UserWarning, match=f"'odd' .*{reason}"):
        table = read_table(frame)
    assert table.names == ["x", "y"]
    assert reason in table.left_out["odd"]


def test_many_different_texts_are_free_text():
    names = [f"name {row // 2}" for row in range(300)]
    with pytest.warns(UserWarning, match="150 different values"):
        table = read_table(pandas.DataFrame({"x": np.sin(range(300)), "y": np.cos(range(300)), "name": names}))
    assert table.names == ["x", "y"]


@pytest.mark.parametrize(
    "values",
    [["1.5", "2", None, "-3e2"], [decimal.Decimal("1.5"), 2, None, -300.0], pandas.array([1, 2, None, -300], "Int64")],
)
def test_numbers_are_numbers_however_they_are_stored(values):
    column = read_table(pandas.DataFrame({"x": X, "odd": values})).columns[1]
    assert column.is_number
    assert np.isnan(column.values[2])
    assert column.values[3] == -300


@pytest.mark.parametrize("values", [[True, False, True, True], [True, False, None, True], ["a", "b", "a", "b"]])
def test_truth_values_and_texts_that_repeat_are_categories(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        column = read_table(pandas.DataFrame({"x": X, "odd": pandas.Series(values)})).columns[1]
    assert len(column.categories) == 2
    assert column.text(0) == str(values[0])


def test_a_table_of_categories_only_is_read():
    assert read_table(pandas.DataFrame({"a": list("xyxy"), "b": list("uuvv")})).num_rows == 4


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ({"x": [1.0], "y": [2.0]}, "1 row"),
        ({"x": X}, "1 of the 2 columns"),
        ({"x": X, "c": [1, 1, 1, 1]}, "'c' is constant"),
        ({"x": X, "y": [1.0, np.inf, 2.0, 3.0]}, "infinite numbers, in 1 rows"),
        ({"x": X, "y": [1j, 2, 3, 4]}, "complex"),
    ],
)
def test_a_table_without_relations_is_refused(frame, problem):
    with pytest.raises(BadInput, match=problem):
        read_table(pandas.DataFrame(frame))


def test_a_checked_table_is_returned_as_it_is_without_another_warning():
    with pytest.warns(UserWarning, match="constant"):
        table = read_table(pandas.DataFrame({"x": X, "c": 1, "y": Y}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_table(table) is table


def test_a_table_is_read_like_another_one_whatever_values_it_has():
    model = read_table(pandas.DataFrame({"x": X, "c": ["a", "b", "a", "b"]}))
    one = read_like(pandas.DataFrame({"c": ["new"], "x": ["2.5"], "more": [1]}), model)
    assert one.names == ["x", "c"]
    assert one.columns[0].values.tolist() == [2.5]
    assert one.columns[1].categories == ("new",)
    empty = read_like(pandas.DataFrame({"c": [None], "x": [None]}), model)
    assert [column.text(0) for column in empty.columns] == ["missing", "missing"]


def test_codes_of_a_category_are_the_same_where_only_some_of_them_are_read_like_it(tmp_path):
    text = "code,mark\n01,TRUE\n02,FALSE\nA,TRUE\n01,FALSE\n02,TRUE\n"
    (tmp_path / "model.csv").write_text(text + "01,TRUE\n")
    (tmp_path / "some.csv").write_text(text.split("\nA")[0] + "\n")
    model = read_table(tmp_path / "model.csv")
    code, mark = read_like(tmp_path / "some.csv", model).columns
    assert (code.categories, mark.categories) == (("01", "02"), ("False", "True"))
    numbered = read_table(pandas.DataFrame({"c": ["1", "2", "A"] * 2, "x": [3, 1, 2] * 2}))
    gaps = read_like(pandas.DataFrame({"c": [1.0, None, 2.0], "x": [1, 2, 3]}), numbered)  # floats because of the gap
    assert [gaps.columns[0].text(row) for row in range(3)] == ["1", "missing", "2"]


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ({"x": X}, "no column 'c'"),
        ({"x": ["high"], "c": ["a"]}, "column 'x' holds 'high'"),
        ({"x": [np.inf], "c": ["a"]}, "infinite"),
    ],
)
def test_a_table_of_other_columns_is_not_read_like_it(frame, problem):
    model = read_table(pandas.DataFrame({"x": X, "c": ["a", "b", "a", "b"]}))
    with pytest.raises(BadInput, match=problem):
        read_like(pandas.DataFrame(frame), model)


@pytest.mark.parametrize("odd", [-999.0, 9999.0])
def test_a_number_that_is_often_written_for_a_missing_value_is_named_in_a_warning(odd):
    values = [odd, 2.5, odd, 0.5]
    with pytest.warns(UserWarning, match=f"'y' is {odd:g} in 2 rows"):
        table = read_table(pandas.DataFrame({"x": X, "y": values}))
    assert table.columns[1].values.tolist() == values  # and stays what it is


@pytest.mark.parametrize("values", [[999.0, 998.0, 1000.0, 999.0], [99.0, 50.0, 1.0, 99.0], [-999.0, 2.5, 3.0, 0.5]])
def test_such_a_number_among_others_like_it_or_in_one_row_is_none(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_table(pandas.DataFrame({"x": X, "y": values}))
    assert table.columns[1].values.tolist() == values
