"""The verdict table in a terminal, and the measurements as Parquet."""

import io
from dataclasses import replace

import pyarrow.parquet
import pytest
from rich.console import Console

from joma.records import Measurement
from joma.report.tables import verdict_table, write_metrics


def printed(table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system="truecolor", force_terminal=True)
    console.print(table)
    return console.file.getvalue()


def test_a_row_per_claim_with_value_criterion_control_and_verdict(outcomes):
    text = printed(verdict_table(outcomes), 160)
    for outcome in outcomes:
        assert outcome.claim.id in text
    for part in ("0.470 ± 0.040", "≥ 0.2", "0.003 ± 0.047", "undecided", "not evaluated", "12 s"):
        assert part in text, part
    assert "theorem1.softmax: loss is NaN at step 40" in text


def test_verdicts_are_coloured(outcomes):
    lines = printed(verdict_table(outcomes), 160).splitlines()
    colours = {name: next(line for line in lines if name in line) for name in ("does not hold", "undecided")}
    assert "\x1b[1;31mdoes not hold" in colours["does not hold"]
    assert "\x1b[1;33mundecided" in colours["undecided"]


def test_markup_in_texts_is_not_obeyed(outcomes):
    named = replace(outcomes[1], error="[bold red]loud[/] and [/nonsense]")
    assert "[bold red]loud[/] and [/nonsense]" in printed(verdict_table([named]), 160)


def test_a_narrow_terminal_breaks_no_id(outcomes):
    lines = printed(verdict_table(outcomes), 80).splitlines()
    for outcome in outcomes:
        assert any(outcome.claim.id in line for line in lines)


ROWS = [
    Measurement("full, seed 0", 0, 0, None, "attention_entropy_nats", 2.54),
    Measurement("full, seed 0", 100, None, None, "validation_loss_nats", 6.5),
    Measurement("simulation", 100, 1, 3, "attention_entropy_nats", float("inf")),
]


def test_metrics_come_back_as_they_were_with_nulls(tmp_path):
    path = write_metrics(iter(ROWS), tmp_path / "new" / "metrics.parquet")
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["run", "step", "layer", "head", "metric", "value"]
    assert [Measurement(**row) for row in table.to_pylist()] == ROWS
    assert pyarrow.parquet.ParquetFile(path).metadata.row_group(0).column(5).compression == "ZSTD"


def test_no_measurements_are_a_table_all_the_same(tmp_path):
    path = write_metrics([], tmp_path / "metrics.parquet")
    assert pyarrow.parquet.read_table(path).num_rows == 0


def test_a_write_that_fails_leaves_the_old_table(tmp_path):
    path = write_metrics(ROWS, tmp_path / "metrics.parquet")
    before = path.read_bytes()
    with pytest.raises(pyarrow.ArrowException):
        write_metrics([Measurement("run", 1, None, None, "metric", "not a number")], path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.parquet"]
