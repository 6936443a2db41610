"""What every test shares."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two workers' threads must not spin on each other's cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub by accident; those that mean to say so
# A shell makes what it starts in the background ignore Ctrl-C; the tests that send one mean it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tolerance():
    """Look a bound up in the one table: ``tolerance('theorem1.exp')``."""
    from tolerances import TOLERANCES

    return lambda name: TOLERANCES[name].bound


@pytest.fixture(scope="session")
def wikitext_folder() -> Path:
    """What ``JOMA_DATA`` has to name for the real WikiText-2: itself, or ``../shared/data`` beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("JOMA_DATA", beside))
    if not (folder / "wikitext-2").is_dir():
        pytest.skip("WikiText-2 is not here: set JOMA_DATA to a folder that holds wikitext-2/train.txt.xz")
    return folder
