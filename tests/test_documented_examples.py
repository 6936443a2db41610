"""Pages show what their examples print."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
NUMBER = r"-?\d+\.\d+"


@pytest.fixture
def gradients():
    """Let an example switch gradients off for itself alone."""
    before = torch.is_grad_enabled()
    yield
    torch.set_grad_enabled(before)


@pytest.mark.usefixtures("gradients")
@pytest.mark.parametrize("name", ["laws", pytest.param("rhm", marks=pytest.mark.slow)])
def test_a_page_shows_what_its_example_prints(name, tolerance):
    if name == "rhm":
        pytest.importorskip("skbio", reason="the extra trees")
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    code, shown = re.search(r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", page, re.DOTALL).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, f"docs/{name}.md", "exec"), {"__name__": "documented"})
    assert re.sub(NUMBER, "#", printed.getvalue()) == re.sub(NUMBER, "#", shown)
    numbers, expected = ([float(one) for one in re.findall(NUMBER, text)] for text in (printed.getvalue(), shown))
    assert numbers == pytest.approx(expected, abs=tolerance(f"documented.{name}"))
