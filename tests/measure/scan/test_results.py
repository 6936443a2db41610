"""Results of a scan survive a kill while a line is written, a flipped bit and other settings."""

import json

import pytest

from joma.errors import BadInput
from joma.journal import line_of
from joma.measure.scan.results import FILE, ScanStore, StepResult
from joma.records import Row
from joma.serialization import unsealed

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


def test_a_damaged_line_is_reported_and_its_step_measured_again(filled):
    path = filled / FILE
    content = path.read_bytes()
    path.write_bytes(content.replace(b"10.1", b"10.2"))
    with pytest.warns(UserWarning, match=r"line 3 of .*scan\.jsonl: damaged and removed; the steps are measured again"):
        store = ScanStore(filled, SETTINGS)
    assert list(store.results) == [0, 20]
    store.append(result(10, notes=("zeros",)))
    assert sorted(path.read_bytes().splitlines()) == sorted(content.splitlines())
    assert list(ScanStore(filled, SETTINGS).results) == [0, 20, 10]


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 1},
        {"step": "10"},
        {"step": None},
        {"rows": 3},
        {"rows": {"metric": ["a"], "value": ["1"]}},
        {"rows": {"metric": ["a", "b"], "value": [1.0]}},
        {"rows": {"metric": ["a"], "value": [10**400]}},
        {"rows": {"metric": ["a"], "value": [1.0], "layer": [1.5]}},
        {"rows": {"metric": ["a"]}},
        {"notes": "zeros"},
        {"notes": [3]},
        {"reason": None},
        {"fingerprint": ["ab"]},
        {"seconds": True},
        {"settings": SETTINGS},
    ],
)
def test_a_line_of_another_shape_with_a_right_checksum_is_reported(filled, change):
    path = filled / FILE
    first, *lines = path.read_bytes().splitlines(keepends=True)
    body = unsealed(json.loads(lines[1])) | change
    path.write_bytes(b"".join([first, lines[0], line_of(body), lines[2]]))
    with pytest.warns(UserWarning, match="line 3 of"):
        assert list(ScanStore(filled, SETTINGS).results) == [0, 20]


def test_a_first_line_that_is_damaged_in_any_place_is_refused_and_nothing_is_removed(filled):
    path = filled / FILE
    content = path.read_bytes()
    end = content.index(b"\n") + 1
    for at in range(end):
        damaged = bytearray(content)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"line 1 of .*scan\.jsonl is damaged.*expected.*remove this file"):
            ScanStore(filled, SETTINGS)
        assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"[]\n", b"null\n", b"3", b'{"settings": 3}\n', b"\xff" * 99, b"[" * 9999 + b"\n"])
def test_a_file_that_is_no_scan_is_refused(filled, content):
    (filled / FILE).write_bytes(content)
    with pytest.raises(BadInput, match="line 1 of"):
        ScanStore(filled, SETTINGS)


def test_settings_that_only_one_of_two_scans_has_are_another_scan(filled):
    for settings in (SETTINGS | {"more": None}, {name: SETTINGS[name] for name in list(SETTINGS)[1:]}):
        with pytest.raises(BadInput, match=r"another scan \((more|source): "):
            ScanStore(filled, settings)


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
