"""Pages of public names show what their examples print and draw."""

import examples
import pages
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("api")
    examples.write(["phases", "InvalidArgument"], made)
    return made


def test_an_example_that_draws_has_its_picture_after_it(folder):
    text = (folder / "phases.md").read_text(encoding="utf-8")
    before, after = text.split("\n![What the example draws](phases_0.png)\n")
    assert before.endswith(">>> axes = found.plot()\n```\n")
    assert before + after == pages.api_page("phases")
    assert (folder / "phases_0.png").read_bytes().startswith(b"\x89PNG")


def test_an_example_that_draws_nothing_has_the_page_of_its_docstring(folder):
    assert (folder / "InvalidArgument.md").read_text(encoding="utf-8") == pages.api_page("InvalidArgument")


def test_an_example_of_the_same_code_is_not_executed_again(folder, monkeypatch):
    again = []
    monkeypatch.setattr(examples, "page", lambda name: again.append(name) or ("", {}))
    examples.write(["phases", "InvalidArgument"], folder)
    assert again == []
