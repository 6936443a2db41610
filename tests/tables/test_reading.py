import gzip
from pathlib import Path

import numpy as np
import pandas
import pytest

from joma.errors import BadInput
from joma.tables.columns import read_table
from joma.tables.decimals import MISSING
from joma.tables.reading import read_frame

GOOD = pandas.DataFrame(
    {"height": [1.5, 2.5, None, 3.0, 1.0, 2.0], "colour": ["red", "blue", "red", None, "red", "blue"]}
)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet"])
def test_a_table_is_the_same_from_every_file_format(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    if suffix == "parquet":
        GOOD.to_parquet(path)
    else:
        GOOD.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    table = read_table(path)
    assert table.names == ["height", "colour"]
    assert table.columns[1].categories == ("blue", "red")
    np.testing.assert_array_equal(table.columns[0].values, [1.5, 2.5, np.nan, 3.0, 1.0, 2.0])
    np.testing.assert_array_equal(table.columns[1].values, [1, 0, 1, np.nan, 1, 0])
    assert table.columns[0].text(2) == table.columns[1].text(3) == "missing"


def test_arrays_of_numpy_are_read_with_numbers_as_names(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 3))
    np.save(tmp_path / "one.npy", array)
    np.savez(tmp_path / "one.npz", table=array)
    np.savez(tmp_path / "columns.npz", x=array[:, 0], y=array[:, 1])
    assert read_table(tmp_path / "one.npy").names == read_table(tmp_path / "one.npz").names == ["0", "1", "2"]
    assert read_table(tmp_path / "columns.npz").names == ["x", "y"]
    np.testing.assert_array_equal(read_table(array).columns[2].values, array[:, 2])


def test_named_fields_of_an_array_are_columns():
    array = np.array([(1.0, 2), (3.0, 5)], dtype=[("x", float), ("y", int)])
    assert read_table(array).names == ["x", "y"]


TEXTS = {
    "semicolons": "height;colour\n1.5;red\n2.5;blue\n",
    "semicolons and decimal commas": "height;colour\n1,5;red\n2,5;blue\n",
    "tabs": "height\tcolour\n1.5\tred\n2.5\tblue\n",
    "Excel's line with the separator": "\ufeffsep=;\r\nheight;colour\r\n1,5;red\r\n2,5;blue\r\n",
    "a separator within quotes": '"height";colour\n1.5;red\n2.5;blue\n',
    "empty lines above the names": "\n  \nheight;colour\n1,5;red\n2,5;blue\n",
    "empty lines and Excel's line": "\nsep=;\n\nheight;colour\n1,5;red\n2,5;blue\n",
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("opened", [open, gzip.open])
def test_the_separator_of_a_csv_file_is_found(tmp_path, kind, opened):
    path = tmp_path / ("table.csv" if opened is open else "table.csv.gz")
    with opened(path, "wb") as file:
        file.write(TEXTS[kind].encode())
    frame = read_frame(path)
    assert frame["height"].tolist() == [1.5, 2.5]
    assert frame["colour"].tolist() == ["red", "blue"]


def test_names_with_the_other_separators_in_quotes_do_not_mislead(tmp_path):
    path = tmp_path / "table.csv"
    for name in ("a;b;c", "a\n;;b", "a\t\t"):
        path.write_text(f'"{name}",d\n1,2\n3,4\n')
        assert read_frame(path).to_dict("list") == {name: [1, 3], "d": [2, 4]}
    path.write_text("a;b,c;d,e\n1,2,3\n4,5,6\n")
    assert list(read_frame(path)) == ["a;b", "c;d", "e"]


def test_two_possible_separators_are_refused_and_a_first_line_decides(tmp_path):
    path = tmp_path / "table.csv"
    text = "Height, m;Weight, kg\n1,5;60,5\n1,8;70,5\n"  # 3 columns by commas, 2 by semicolons
    path.write_text(text)
    with pytest.raises(BadInput, match=r"separated by ',' or ';'.*sep=;"):
        read_frame(path)
    path.write_text("sep=;\n" + text)
    assert read_frame(path).to_dict("list") == {"Height, m": [1.5, 1.8], "Weight, kg": [60.5, 70.5]}


@pytest.mark.parametrize(
    ("column", "other", "numbers"),
    [
        (["999,5", "1.234", "2.000"], ["1", "2", "3"], [999.5, 1234.0, 2000.0]),
        (["1.234.567,5", "-1.234", ""], ["1", "2", "3"], [1234567.5, -1234.0, None]),
        (["1.234", "2.500", "3.000"], ["0,5", "1", "2"], [1234, 2500, 3000]),
        (["1,234", "2,500", "3,000"], ["0.5", "1", "2"], [1234, 2500, 3000]),
        (["1,234", "2,500", "NA"], ["1", "2", "3"], [1.234, 2.5, None]),
        (["1.234", "0.5", "3"], ["1,5", "2", "3"], [1.234, 0.5, 3.0]),
        (["1.234", "0.5", "1,5"], ["1", "2", "3"], None),
        (["1,234,567", "2", "3"], ["1", "2", "3"], None),
    ],
)
def test_the_whole_table_says_what_separates_thousands_or_numbers_stay_text(tmp_path, column, other, numbers):
    path = tmp_path / "table.csv"
    path.write_text("a;b\n" + "".join(f"{one};{two}\n" for one, two in zip(column, other, strict=True)))
    found = read_frame(path)["a"]
    assert found.astype(object).where(found.notna(), None).tolist() == (column if numbers is None else numbers)


def test_quoted_numbers_with_commas_of_a_comma_separated_file_stay_text(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('a,b\n"1,234",0.5\n"2,500",1.5\n')
    assert read_frame(path)["a"].tolist() == ["1,234", "2,500"]


def test_texts_are_read_alike_in_every_part_of_a_long_file(tmp_path, monkeypatch):
    monkeypatch.setattr("joma.tables.reading._CHUNK", 2)
    path = tmp_path / "table.csv"
    path.write_text("code,number\n01,1\n02,2\n0x,NA\n01,4\n")
    frame = read_frame(path)
    assert frame["code"].tolist() == ["01", "02", "0x", "01"]
    np.testing.assert_array_equal(frame["number"], [1, 2, np.nan, 4])


FILES = {
    "latin.csv": ("größe,b\n1,2\n".encode("latin-1"), "of UTF-8 text"),
    "empty.csv": (b"", "cannot be read"),
    "only_names.csv": (b"a,b\n", "no rows"),
    "garbage.csv": (bytes(range(256)) * 20, "cannot be read"),
    "zeros.csv": (b"a,b\0\n1,2\n", "cannot be read"),
    "garbage.parquet": (b"PAR1 and nothing else", "cannot be read"),
    "garbage.npy": (b"no header", "cannot be read"),
    "garbage.npz": (b"no archive", "cannot be read"),
    "cut.csv.gz": (b"\x1f\x8b\x08\x00", "cannot be read"),
    "twice.csv": (b"a,a\n1,2\n3,4\n", "two columns of the name 'a'"),
    "unnamed.csv": (b"1,2\n3,4\n", "holds only numbers"),
    "ragged.csv": (b"a,b\n1,2\n1,2,3,4\n", "cannot be read"),
    "longer.csv": (b"a,b\n1,2,3\n4,5,6\n", "cannot be read"),
    "table.xlsx": (b"", "unknown kind"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_table_is_refused_with_what_is_wrong(tmp_path, name):
    content, problem = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=problem):
        read_frame(tmp_path / name)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_frame(tmp_path / "none.csv")
    with pytest.raises(BadInput, match="is a folder"):
        read_frame(tmp_path)


def test_pickled_objects_are_refused_and_not_unpickled(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "objects.npz", table=np.array([[None, 1]], dtype=object))
    for name in ("objects.npy", "objects.npz"):
        with pytest.raises(BadInput, match="unpickled"):
            read_frame(tmp_path / name)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz"])
def test_a_table_that_is_too_large_is_refused(tmp_path, suffix):
    frame, path = pandas.DataFrame(np.zeros((20, 3)), columns=list("abc")), tmp_path / f"large.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        np.save(path, frame.to_numpy()) if suffix == "npy" else np.savez(path, frame.to_numpy())
    with pytest.raises(BadInput, match="20 rows of 3 columns"):
        read_frame(path, most_cells=59)
    assert read_frame(path, most_cells=60).shape == (20, 3)


@pytest.mark.parametrize("source", [None, 3, [[1, 2]], np.zeros((2, 2, 2)), np.float64(3)])
def test_other_objects_are_refused(source):
    with pytest.raises(BadInput):
        read_frame(source)


def test_an_array_of_two_arrays_of_rows_is_refused(tmp_path):
    np.savez(tmp_path / "two.npz", train=np.zeros((3, 2)), test=np.zeros((4, 2)))
    with pytest.raises(BadInput, match=r"train \(3, 2\)"):
        read_frame(tmp_path / "two.npz")


def test_words_for_missing_numbers_are_texts_among_texts_and_gaps_among_numbers(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("garage,level,length\nNone,NA,1\nyes,p,NA\n,q,3\n")
    frame = read_frame(path)
    assert frame["garage"].tolist()[:2] == ["None", "yes"]
    assert frame["garage"].isna().tolist() == [False, False, True]
    assert frame["level"].tolist() == ["NA", "p", "q"]
    np.testing.assert_array_equal(frame["length"].to_numpy(), [1, np.nan, 3])


def test_columns_that_are_wanted_as_text_keep_their_zeros(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("user,value\n01,1\n1,02\n")
    frame = read_frame(path, texts=("user", "item"))
    assert frame["user"].tolist() == ["01", "1"]
    assert frame["value"].tolist() == [1, 2]


def test_the_docs_list_every_word_for_a_missing_number():
    page = (Path(__file__).parents[2] / "docs" / "trees-from-data.md").read_text()
    assert not [word for word in MISSING if f"`{word}`" not in page]
