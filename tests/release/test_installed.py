"""The wheel in fresh environments from an index: alone, with each extra alone, and with the oldest dependencies.

Each test installs up to several gigabytes: ``pytest -m slow tests/release``.
"""

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import joma
from tolerances import TOLERANCES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PROOFS = {
    "gguf": ("tests/saved/test_gguf.py",),
    "hub": ("tests/train/test_hierarchies.py",),
    "ray": ("tests/studies/test_sweep.py", "-k", "cluster"),
    "lightning": ("tests/saved/test_lightning.py",),
    "search": ("tests/studies/test_sweep.py", "-k", "search_samples"),
    "trees": ("tests/measure/trees",),
    "anomalies": ("tests/claims/anomaly/test_rivals.py",),
    "ratings": ("tests/tables/test_ratings.py",),
    "images": ("tests/train/images/test_kanji.py",),
    "docs": ("tests/test_site.py", "tests/contract/test_public_names.py", "-k", "every_page or docstring_runs"),
}
"""For each extra the tests, run where no other extra is installed, that need it."""

TESTED = tuple(
    f"tests/{name}"
    for name in (
        "theory",
        "measure/attention",
        "measure/scan/test_steps.py",
        "measure/watch/test_watching.py",
        "saved/test_series.py",
        "simulate",
        "tables",
        "report/drawing",
        "cli/test_solve.py",
    )
)
"""Tests of every dependency of joma itself, run with its oldest versions."""

FACTS = re.compile(r"<dt>.*</dt>.*")
"""Lines of a page that say when and with which versions it was made."""

DECIMAL = re.compile(r"-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)")
"""A number that other versions of NumPy and SciPy may give with other last digits."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside this environment, and return what it printed."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture
def environment(tmp_path) -> Path:
    """Return the folder of programs of a new environment."""
    venv.create(tmp_path / "environment", with_pip=True)
    return tmp_path / "environment" / "bin"


def unproven(environment: Path, *chosen: str) -> list[str]:
    """Run tests there, and return those that were skipped, which prove nothing, unless they need an accelerator."""
    folder = f"--basetemp={environment.parent / 'tests'}"  # the usual one is where pytest removes what this run needs
    options = ("-q", "-rs", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", folder)
    printed = run(environment / "python", "-m", "pytest", *options, "-m", "not browser", *chosen, cwd=ROOT)
    assert re.search(r"\d+ passed", printed), printed
    skipped = [line for line in printed.splitlines() if line.startswith("SKIPPED")]
    return [line for line in skipped if not re.search("accelerator|CUDA", line)]


def made(environment: Path, folder: Path) -> str:
    """Reproduce a claim, make the explorer's page, and return that page without its facts."""
    printed = run(environment / "joma", "reproduce", "theorem4", "--out", folder / "out", "--strict", cwd=folder)
    assert "1 claim: 1 holds." in printed
    assert (folder / "out" / "report.html").exists()
    page = folder / "explore.html"
    run(environment / "joma", "explore", "--out", page, cwd=folder)
    return FACTS.sub("", page.read_text(encoding="utf-8"))


def oldest(requirements: list[str]) -> list[str]:
    """Return requirements that admit only the lowest version that the given ones admit."""
    return [re.sub(r">=([\d.]+).*", r"==\1", requirement) for requirement in requirements]


def test_every_extra_has_a_proof():
    assert PROOFS.keys() == PROJECT["optional-dependencies"].keys() - {"dev"}


def test_the_wheel_alone_reproduces_a_claim_and_makes_the_explorer(wheel, environment, tmp_path):
    run(environment / "pip", "install", "-q", wheel, cwd=tmp_path)
    assert made(environment, tmp_path) == FACTS.sub("", joma.explore().page())


@pytest.mark.parametrize("extra", PROOFS)
def test_an_extra_alone_newest_or_oldest_is_enough_for_what_needs_it(extra, wheel, environment, tmp_path):
    run(environment / "pip", "install", "-q", f"{wheel}[{extra}]", "pytest", "psutil", cwd=tmp_path)
    assert unproven(environment, *PROOFS[extra]) == []
    run(environment / "pip", "install", "-q", *oldest(PROJECT["optional-dependencies"][extra]), cwd=tmp_path)
    assert unproven(environment, *PROOFS[extra]) == []


def test_the_oldest_dependencies_are_enough(wheel, environment, tmp_path):
    pinned = oldest(PROJECT["dependencies"])
    run(environment / "pip", "install", "-q", wheel, *pinned, "pytest", "hypothesis", "mpmath", "psutil", cwd=tmp_path)
    page, expected = made(environment, tmp_path), FACTS.sub("", joma.explore().page())
    assert DECIMAL.sub("", page) == DECIMAL.sub("", expected)
    numbers, wanted = ([float(number) for number in DECIMAL.findall(text)] for text in (page, expected))
    assert numbers == pytest.approx(wanted, rel=TOLERANCES["explore.versions"].bound, abs=1e-12)
    assert [line for line in unproven(environment, *TESTED) if "the extra joma[" not in line] == []
