"""The folder of a sweep keeps outcomes that were written whole, and knows which sweep it holds."""

import pytest

from joma.errors import BadInput
from joma.train.sweeps.folder import SweepFolder
from joma.train.sweeps.outcomes import Outcome

ONE, OTHER = Outcome("one", "failed", "NaN"), Outcome("other", "finished", "", 2.5, 0)


@pytest.fixture
def folder(tmp_path):
    folder = SweepFolder(tmp_path)
    for outcome in (ONE, OTHER):
        folder.record(outcome)
    return folder


def test_the_last_outcome_of_a_run_counts(folder):
    again = Outcome("one", "finished", "", 1.0, 20)
    folder.record(again)
    assert folder.recorded(["one", "other", "third"]) == {"one": again, "other": OTHER}
    assert folder.recorded(["other"]) == {"other": OTHER}


def test_a_line_that_was_cut_off_is_removed_before_the_next_one(folder):
    path = folder.path / "outcomes.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    assert folder.recorded(["one", "other"]) == {"one": ONE}
    folder.record(OTHER)
    assert folder.recorded(["one", "other"]) == {"one": ONE, "other": OTHER}


def test_a_damaged_line_is_left_out(folder):
    path = folder.path / "outcomes.jsonl"
    path.write_bytes(path.read_bytes().replace(b"NaN", b"nan"))
    assert folder.recorded(["one", "other"]) == {"other": OTHER}


def test_a_folder_is_claimed_for_one_sweep(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.claim({"recipe": "figure8", "text": None}, "digest")
    folder.claim({"recipe": "figure8", "text": None}, "digest")
    folder.check({"recipe": "figure8", "text": None})
    assert folder.text_digest == "digest"
    with pytest.raises(BadInput, match="text: None, not mine"):
        folder.claim({"recipe": "figure8", "text": "mine"}, "digest")
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        folder.claim({"recipe": "figure8", "text": None}, "digest")
