"""The links of joma's pages."""

import re
from pathlib import Path


def explorer_of(page: Path) -> Path:
    """Return the explorer that a page links to, once every file that the page links to is there."""
    links = re.findall(r'href="([^"#:]+)"', page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).is_file()] == []
    assert "explorer.html" in links
    return page.parent / "explorer.html"
