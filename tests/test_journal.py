import random

import pyarrow.parquet
import pytest

from joma.journal import append_line, line_of, read_journal, write_metrics
from joma.records import Measurement

STEPS = [0, 3, 6, 10]
ROWS = {
    step: ((0, 1, "attention_entropy_nats", 2.5 + step / 7), (None, None, "loss", 1 / (step + 3))) for step in STEPS
}


@pytest.fixture
def path(tmp_path):
    for step in STEPS:
        append_line(tmp_path / "metrics.jsonl", line_of(step, ROWS[step]))
    return tmp_path / "metrics.jsonl"


def test_gives_back_what_was_written(path):
    journal = read_journal(path, STEPS)
    assert dict(journal.probes) == ROWS
    assert (journal.last_step, journal.num_bytes, journal.damage) == (10, path.stat().st_size, "")


def test_a_file_that_is_not_there_holds_nothing(tmp_path):
    journal = read_journal(tmp_path / "metrics.jsonl", STEPS)
    assert (journal.probes, journal.last_step, journal.damage) == ((), -1, "")


def test_cut_anywhere_it_keeps_the_whole_lines(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        journal = read_journal(path, STEPS)
        assert len(journal.probes) == content[:length].count(b"\n")
        assert journal.damage == ""


def test_one_altered_byte_is_found_and_what_stands_before_it_is_kept(path):
    content, dice = path.read_bytes(), random.Random(0)
    for _ in range(300):
        at = dice.randrange(len(content))
        altered = bytearray(content)
        altered[at] ^= 1 << dice.randrange(8)
        path.write_bytes(altered)
        journal = read_journal(path, STEPS)
        num_before = content[:at].count(b"\n")
        assert journal.probes == tuple(ROWS.items())[:num_before]
        assert journal.num_bytes == content.rfind(b"\n", 0, at) + 1
        last_newline = at == len(content) - 1
        assert last_newline or f"line {num_before + 1} of {path}" in journal.damage


def test_a_missing_or_foreign_line_is_damage(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], *lines[2:]]))
    assert read_journal(path, STEPS).last_step == 0
    path.write_bytes(b"".join([*lines, line_of(10, ROWS[10]).encode()]))
    journal = read_journal(path, STEPS)
    assert (journal.last_step, bool(journal.damage)) == (10, True)


def test_where_nobody_knows_the_steps_they_only_have_to_ascend(path):
    assert read_journal(path) == read_journal(path, STEPS)
    append_line(path, line_of(10, ROWS[10]))
    journal = read_journal(path)
    assert (journal.last_step, f"line 5 of {path}" in journal.damage) == (10, True)


MEASUREMENTS = [
    Measurement("full, seed 0", 0, 0, None, "attention_entropy_nats", 2.54),
    Measurement("full, seed 0", 100, None, None, "validation_loss_nats", 6.5),
    Measurement("simulation", 100, 1, 3, "attention_entropy_nats", float("inf")),
]


def test_metrics_come_back_as_they_were_with_nulls(tmp_path):
    path = write_metrics(iter(MEASUREMENTS), tmp_path / "new" / "metrics.parquet")
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["run", "step", "layer", "head", "metric", "value"]
    assert [Measurement(**row) for row in table.to_pylist()] == MEASUREMENTS
    assert pyarrow.parquet.ParquetFile(path).metadata.row_group(0).column(5).compression == "ZSTD"


def test_no_measurements_are_a_table_all_the_same(tmp_path):
    path = write_metrics([], tmp_path / "metrics.parquet")
    assert pyarrow.parquet.read_table(path).num_rows == 0


def test_a_write_that_fails_leaves_the_old_table(tmp_path):
    path = write_metrics(MEASUREMENTS, tmp_path / "metrics.parquet")
    before = path.read_bytes()
    with pytest.raises(pyarrow.ArrowException):
        write_metrics([Measurement("run", 1, None, None, "metric", "not a number")], path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.parquet"]
