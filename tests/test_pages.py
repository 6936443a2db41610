"""Generated pages of the documentation are up to date with the code."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_page_is_the_generated_one(name):
    assert (DOCS / name).read_text(encoding="utf-8") == pages.PAGES[name](), "run: .venv/bin/python docs/pages.py"


def test_every_api_page_belongs_to_a_public_name():
    assert {f"api/{path.name}" for path in (DOCS / "api").iterdir()} == {name for name in pages.PAGES if "/" in name}
