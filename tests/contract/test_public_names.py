"""The public names: exactly the frozen ones, each imported when it is used, each with an example that runs."""

import inspect
import subprocess
import sys

import examples
import pytest

import frozen
import joma
from joma.studies.result import Result

OPTIONAL = {"TrainerWatch": "accelerate", "LightningWatch": "lightning"}


def test_dir_lists_exactly_the_frozen_names():
    changed = frozen.difference("public_names.txt")
    assert not changed, (
        f"if the change is deliberate, run `.venv/bin/python tests/frozen.py` and commit the list\n{changed}"
    )
    assert dir(joma) == sorted(joma.__all__)


def test_removed_and_added_names_are_in_the_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "CONTRACT", tmp_path)
    (tmp_path / "public_names.txt").write_text("joma.gone\njoma.kept\n")
    monkeypatch.setitem(frozen.LISTS, "public_names.txt", lambda: ["joma.kept", "joma.new"])
    assert frozen.difference("public_names.txt").splitlines()[2:] == ["-joma.gone", "+joma.new"]


def test_importing_joma_imports_no_heavy_module():
    heavy = ("torch", "numpy", "scipy", "pandas", "transformers", "rich", "matplotlib", "plotly", "jinja2")
    code = f"import sys, joma; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_declaring_a_claim_imports_no_numerical_library():
    code = "import sys, joma; joma.Claim, joma.Reference; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="wacth"):
        joma.wacth  # noqa: B018


@pytest.mark.parametrize("name", joma.__all__)
def test_the_example_in_the_docstring_runs_and_prints_what_it_shows(name):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name], reason="not installed: it comes with joma[dev]")
    assert any(line.startswith((">>> import", ">>> from")) for line in examples.executed(name)[0].splitlines())


def test_an_example_that_prints_something_else_is_stale(monkeypatch):
    stale = inspect.getdoc(joma.blow_up_time).replace("1.2533", "1.2534")
    monkeypatch.setattr(joma.blow_up_time, "__doc__", stale)
    with pytest.raises(examples.Stale, match=r"1\.2533"):
        examples.executed("blow_up_time")


@pytest.mark.parametrize("name", joma.__all__)
def test_the_example_of_a_result_draws_it(name):
    thing = getattr(joma, name)
    returned = thing if inspect.isclass(thing) else getattr(sys.modules[thing.__module__], _returned(thing), object)
    is_drawn = inspect.isclass(returned) and issubclass(returned, Result) and name != "explore"  # which is a page
    assert is_drawn == (".plot(" in (inspect.getdoc(thing) or ""))


def _returned(thing: object) -> str:
    return str(inspect.signature(thing).return_annotation)
