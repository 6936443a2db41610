"""Results of a scan survive a kill while a line is written, a flipped bit and other settings."""

import pytest

from joma.errors import BadInput
from joma.measure.scan.results import FILE, ScanStore, StepResult
from joma.records import Row

SETTINGS = {"source": "x", "measures": ["stable_rank"], "probe": None, "num_threads": 1}


def result(step: int, **changes) -> StepResult:
    rows = (Row(0, 1, "query", "stable_rank", 0.1 + step), Row(None, None, None, "val_loss_nats", 1e-17, "sequences_3"))
    return StepResult(
        step, **({"rows": rows, "fingerprint": "ab", "seconds": 0.5, "bytes_read": 7, "bytes_stored": 9} | changes)
    )


@pytest.fixture
def filled(tmp_path):
    store = ScanStore(tmp_path, SETTINGS)
    for step in (0, 10, 20):
        store.append(result(step, notes=("zeros",)))
    return tmp_path


def test_stored_results_are_read_bit_identically(filled):
    assert ScanStore(filled, SETTINGS).results == {step: result(step, notes=("zeros",)) for step in (0, 10, 20)}


def test_an_incomplete_line_is_dropped_and_the_next_is_complete(filled):
    path = filled / FILE
    content = path.read_bytes()
    for cut in (1, 30, len(content.splitlines(keepends=True)[-1]) - 1):
        path.write_bytes(content[:-cut])
        store = ScanStore(filled, SETTINGS)
        assert list(store.results) == [0, 10]
        store.append(result(20, notes=("zeros",)))
        assert path.read_bytes() == content


def test_a_damaged_line_is_measured_again(filled):
    path = filled / FILE
    path.write_bytes(path.read_bytes().replace(b"10.1", b"10.2"))
    assert list(ScanStore(filled, SETTINGS).results) == [0, 20]


def test_the_last_result_of_a_step_counts(filled):
    store = ScanStore(filled, SETTINGS)
    store.append(result(10, rows=(), reason="gone", remedy="wait"))
    store.append(result(10, seconds=0.7))
    assert ScanStore(filled, SETTINGS).results[10] == result(10, seconds=0.7)


def test_a_folder_with_another_scan_is_refused(filled):
    with pytest.raises(BadInput, match="measures: stable_rank, not val_loss_nats") as refused:
        ScanStore(filled, SETTINGS | {"measures": ["val_loss_nats"]})
    assert "`out`" in refused.value.remedy


def test_a_nan_value_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        ScanStore(tmp_path, SETTINGS).append(result(0, rows=(Row(0, 0, None, "val_loss_nats", float("nan")),)))
