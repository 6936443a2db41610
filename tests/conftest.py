"""Fixtures and settings of all tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Threads of several workers would wait for each other on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where a test asks for more, idle ones must not use a core
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # only tests that state it may reach a hub
# pip does not compile (README), so what is imported is compiled once and kept, not again in each of many processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Processes started in the background by a shell ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tolerance():
    """Return a function that looks up a bound: ``tolerance('theorem1.exp')``."""
    from tolerances import TOLERANCES

    return lambda name: TOLERANCES[name].bound


@pytest.fixture(scope="session")
def tracked() -> list[str]:
    """Return the files that git tracks, relative to the repository; an unpacked sdist has no git."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a checkout: git does not know these files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


@pytest.fixture(scope="session")
def wikitext_folder() -> Path:
    """Return ``JOMA_DATA``, by default ``../shared/data`` next to the repository, for the real WikiText-2."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("JOMA_DATA", default))
    if not (folder / "wikitext-2").is_dir():
        pytest.skip("WikiText-2 is not here: set JOMA_DATA to a folder that holds wikitext-2/train.txt.xz")
    return folder
