"""Packages with claims, written to disk as an installer would."""

from collections.abc import Callable
from pathlib import Path

import pytest

CLAIM = """
from joma.claims.claim import Claim, Reference

def claim(id, evaluate="lucky_test:evaluate"):
    reference = Reference(id, "A coin shows heads.", "made up", ("a coin",), "P = 1/2")
    return Claim(reference, "Toss it.", "Do not toss it.", evaluate)
"""


@pytest.fixture
def install(tmp_path) -> Callable[..., Path]:
    """Return a function that writes an installed distribution and returns its folder, for the import path."""

    def laid_out(source: str, name: str = "lucky-draws", value: str = "lucky:CLAIMS") -> Path:
        folder = tmp_path / "site"
        about = folder / f"{name.replace('-', '_')}-1.2.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(f"[joma.claims]\nheads = {value}\n")
        (folder / f"{value.partition(':')[0]}.py").write_text(CLAIM + source)
        return folder

    return laid_out
