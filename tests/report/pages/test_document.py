"""Templates: variables are escaped, undefined names are errors, all templates are part of the package."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from joma.charts import Heatmap
from joma.report.pages.document import document, environment, write_document
from joma.terminal import printable

NASTY = st.text(st.sampled_from("<>&\"'=/ab ;#x{}%]\u2028\u202e"), min_size=1, max_size=40)
TEMPLATES = [
    "anomalies.html",
    "claim.html",
    "claims.html",
    "explore.html",
    "layout.html",
    "macros.html",
    "result.html",
    "scan.html",
    "sentence.html",
    "show.html",
    "sweep.html",
    "tree.html",
]


class Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.texts.append(data)


@given(NASTY, NASTY)
def test_any_text_and_attribute_are_read_back_with_control_characters_as_escapes(text, attribute):
    page = environment().get_template("macros.html").module.section("", "", (attribute,), [(text,)])
    found = Reader(page)
    assert found.attributes["data-label"] == printable(attribute)
    assert "".join(found.texts).count(printable(text)) >= 1
    assert not set("\u2028\u202e") & set(page)
    assert found.tags == ["section", "h2", "table", "caption", "thead", "tr", "th", "tbody", "tr", "th"]


@given(NASTY)
def test_names_of_cells_are_read_back_from_a_heatmap(name):
    map = Heatmap("map", name, name, name, name, [name, "b"], [name], [[1.0, 2.0]], name, struck=[1])
    found = Reader(environment().get_template("macros.html").module.heatmap(map, "map/map"))
    assert found.attributes["data-x-names"] == f"{printable(name)}\nb (struck out)"
    assert found.attributes["data-y-names"] == printable(name)


@given(st.dictionaries(NASTY, NASTY, min_size=1))
def test_data_are_read_back_and_cannot_close_their_element(content):
    inside = environment().from_string("{{ content | tojson }}").render(content=content)
    assert not set("<>&") & set(inside)
    assert json.loads(inside) == content


def test_nan_and_infinity_in_data_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        environment().from_string("{{ content | tojson }}").render(content=[float("nan")])


def test_an_undefined_variable_raises_an_error():
    with pytest.raises(UndefinedError, match="is undefined"):
        document("scan.html", "title", {})


def test_templates_come_with_the_package_and_extend_and_include_each_other():
    folder = files("joma.report.pages") / "templates"
    assert sorted(entry.name for entry in folder.iterdir()) == environment().list_templates() == TEMPLATES
    named = set()
    for name in TEMPLATES:
        environment().get_template(name)
        named |= set(re.findall(r'{% (?:extends|include|from) "([^"]+)"', (folder / name).read_text(encoding="utf-8")))
    assert named == {"claim.html", "layout.html", "macros.html"}


def test_no_template_turns_escaping_off():
    for name in TEMPLATES:
        text = (files("joma.report.pages") / "templates" / name).read_text(encoding="utf-8")
        assert not re.search(r"\bsafe\b|autoescape", text)


def test_bytes_that_are_not_valid_text_are_written_escaped(tmp_path):
    path = write_document("file \udcff.txt", tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == "file \\udcff.txt"
