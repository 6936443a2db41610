"""Lists in the documentation are made from the code and say what the code says."""

from pathlib import Path

import pytest

from joma.report.catalogue import PAGES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_generated_one(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run: python -m joma.report.catalogue"
