import random

import pytest

from joma.journal import append_line, line_of, probe_line, read_journal
from joma.records import Row

STEPS = [0, 3, 6, 10]
ROWS = {
    step: (
        Row(0, 1, None, "attention_entropy_nats", 2.5 + step / 7, "sequences_0"),
        Row(None, None, None, "val_loss_nats", 1 / (step + 3)),
    )
    for step in STEPS
}


@pytest.fixture
def path(tmp_path):
    for step in STEPS:
        append_line(tmp_path / "metrics.jsonl", probe_line(step, ROWS[step]))
    return tmp_path / "metrics.jsonl"


def test_probes_are_read_as_written(path):
    journal = read_journal(path, STEPS)
    assert dict(journal.probes) == ROWS
    assert (journal.last_step, journal.num_bytes, journal.damage) == (10, path.stat().st_size, "")


def test_a_missing_file_has_no_probes(tmp_path):
    journal = read_journal(tmp_path / "metrics.jsonl", STEPS)
    assert (journal.probes, journal.last_step, journal.damage) == ((), -1, "")


def test_a_file_cut_anywhere_keeps_its_complete_lines(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        journal = read_journal(path, STEPS)
        assert len(journal.probes) == content[:length].count(b"\n")
        assert journal.damage == ""


def test_an_altered_byte_is_found_and_earlier_lines_are_kept(path):
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
    path.write_bytes(b"".join([*lines, probe_line(10, ROWS[10])]))
    journal = read_journal(path, STEPS)
    assert (journal.last_step, bool(journal.damage)) == (10, True)


def test_unknown_steps_only_have_to_increase(path):
    assert read_journal(path) == read_journal(path, STEPS)
    append_line(path, probe_line(10, ROWS[10]))
    journal = read_journal(path)
    assert (journal.last_step, f"line 5 of {path}" in journal.damage) == (10, True)


def test_a_column_that_is_unknown_too_short_or_of_another_type_is_damage(path):
    others = ({"metric": ["a"], "value": [None]}, {"metric": [1], "value": [1.0]}, {"metric": "a", "value": [1.0]})
    for columns in ({"metric": ["a"], "weight": [1.0]}, {"metric": ["a", "b"], "value": [1.0]}, [1], None, *others):
        append_line(path, line_of({"step": 13, "rows": columns}))
        assert "line 5" in read_journal(path).damage
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))


def test_nan_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        probe_line(0, [Row(0, 0, None, "stable_rank", float("nan"))])
