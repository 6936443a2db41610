"""Settings of the studies: none is ignored, wrong ones are refused before anything is written or started."""

import subprocess
import sys

import pytest
import torch
from transformers import GPT2Config, GPT2Model

import joma
from joma.errors import BadInput, InvalidArgument


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    config = GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    for step in (0, 100, 200):
        torch.manual_seed(step)
        GPT2Model(config).save_pretrained(folder / f"step{step}")
    return folder


SCRIPT = """
import joma
print("ran", flush=True)
found = joma.scan({!r}, measures="stable_rank", workers=2)
print(repr(found), flush=True)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_measures_every_step_and_runs_once(series, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(str(series)))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout.count("ran") == 1
    assert "3 of 3 steps measured" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "foo"}, "`engine` is 'foo'"),
        ({"sequences": 0}, "`sequences` is 0"),
        ({"workers": 1.5}, "`workers` is 1.5"),
        ({"out": __file__}, "`out` is the file"),
        ({"measure": "weights"}, "did you mean 'measures'"),
    ],
)
def test_wrong_settings_of_a_scan_are_refused(series, settings, message):
    with pytest.raises(InvalidArgument, match=message):
        joma.scan(series, **settings)


def test_settings_of_a_series_have_to_be_given_where_it_is_opened(series):
    opened = joma.open_series(series)
    with pytest.raises(BadInput, match="`steps` has no effect on an open series"):
        joma.scan(opened, steps=[0])
    with pytest.raises(InvalidArgument, match="verify: `settings` is 'measures'"):
        joma.verify(series, measures="weights")


@pytest.mark.parametrize("source", [None, 3, ["a"]])
def test_a_source_that_is_no_path_is_refused(source):
    with pytest.raises(InvalidArgument, match="`source` is"):
        joma.scan(source)


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        (["theorem3"], {"seeds": 0}, "`seeds` is 0"),
        (["theorem3"], {"seeds": 1.5}, "`seeds` is 1.5"),
        ([3], {}, "a claim id is 3"),
        ([["theorem3"]], {}, "pass ids one by one"),
        (["theorem3"], {"text": "nofile.txt"}, "nofile.txt"),
        (["theorem4"], {"data": "ratings.csv"}, "`data` is of type str"),
        (["theorem4"], {"data": {"ratings": None}}, "`data` is None for ratings"),
        (["theorem4"], {"data": {"rating": "x"}}, "did you mean 'ratings'"),
        (["theorem4"], {"data": {"ratings": "nowhere.csv"}}, "there is no nowhere.csv"),
    ],
)
def test_wrong_settings_of_reproduce_leave_no_folder_behind(tmp_path, ids, settings, message):
    with pytest.raises(BadInput, match=message):
        joma.reproduce(*ids, out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
