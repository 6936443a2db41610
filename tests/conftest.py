"""What every test shares."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub by accident; those that mean to say so


@pytest.fixture
def tolerance():
    """Look a bound up in the one table: ``tolerance('theorem1.exp')``."""
    from tolerances import TOLERANCES

    return lambda name: TOLERANCES[name].bound
