"""The tables of docs/findings.md are those that its script makes from the results that stay."""

import importlib.util
from pathlib import Path

import pandas
import pytest

from joma.files import read_json

ROOT = Path(__file__).parents[1]
RESULTS = sorted(path.with_suffix("") for path in (ROOT / "results").glob("*.parquet"))


def findings():
    spec = importlib.util.spec_from_file_location("findings", ROOT / "results" / "findings.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_the_page_are_those_of_the_script():
    script = findings()
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.page(text) == text, "run python results/findings.py"


@pytest.mark.parametrize("name", RESULTS, ids=[path.name for path in RESULTS])
def test_results_say_how_they_were_made_and_have_every_run(name):
    record = read_json(name.with_suffix(".json"), dict, expected="a record", remedy="run results/collect.py")
    frame = pandas.read_parquet(name.with_suffix(".parquet"))
    assert record["command"]
    assert record["versions"]["torch"]
    last = frame.groupby("run")["step"].max().to_dict()
    assert last == {run["run"]: run["last_step"] for run in record["runs"]}
