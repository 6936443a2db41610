"""Versions of all software that evidence depends on, and a digest that changes with any line of code."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import joma
from joma.provenance import code_digest, versions


def test_versions_include_the_numerical_libraries():
    found = versions()
    assert found["joma"] == joma.__version__
    assert found["torch"] == str(torch.__version__)
    assert found["python"] == sys.version.split()[0]
    assert {"numpy", "scipy", "transformers"} < set(found)


@pytest.fixture
def package(tmp_path):
    """Return a copy of the package with its source only."""
    source = Path(joma.__file__).parent
    shutil.copytree(source, tmp_path / "joma", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "joma"


def digest(package: Path) -> str:
    # -I ignores the joma of this folder; -B writes no bytecode files
    code = (
        f"import sys; sys.path.insert(0, {str(package.parent)!r}); from joma.provenance import *; print(code_digest())"
    )
    done = subprocess.run([sys.executable, "-IBc", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_digest_does_not_depend_on_the_folder_of_the_package(package):
    assert digest(package) == code_digest()


def test_a_changed_moved_or_added_module_changes_the_digest(package):
    seen = {digest(package)}
    module = package / "measure" / "spectra" / "spectrum.py"
    module.write_text(module.read_text() + "\n# changed\n")
    seen.add(digest(package))
    module.rename(module.with_name("spectral.py"))
    seen.add(digest(package))
    (package / "measure" / "new.py").touch()
    seen.add(digest(package))
    assert len(seen) == 4


def test_bytecode_files_do_not_change_the_digest(package):
    before = digest(package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"compiled")
    (package / "notes.txt").write_text("nothing that computes")
    assert digest(package) == before


def test_the_digest_includes_another_package_if_given(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "coins").mkdir()
    (tmp_path / "coins" / "toss.py").write_text("SIDES = 2")
    (tmp_path / "dice.py").write_text("SIDES = 6")
    seen = [code_digest(), code_digest("coins"), code_digest("dice")]
    for module in ("coins/toss.py", "dice.py"):
        (tmp_path / module).write_text("SIDES = 20")
    code_digest.cache_clear()
    seen += [code_digest(), code_digest("coins"), code_digest("dice")]
    assert seen[0] == seen[3] == code_digest("not_installed") == code_digest("joma")
    assert len(set(seen)) == 5
