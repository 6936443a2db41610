"""HTML: what was not built here stays text, whatever it contains."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joma.report.drawing.markup import Markup, data_script, element, joined


class Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text, self.attributes = [], "", {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.text += data


NASTY = st.text(st.sampled_from("<>&\"'=/ab ;#x\u2028"), max_size=40)


@given(NASTY, NASTY)
def test_any_text_and_any_attribute_come_back_as_they_were(text, attribute):
    found = Reader(element("p", text, data_name=attribute))
    assert (found.tags, found.text, found.attributes) == (["p"], text, {"data-name": attribute})


@given(st.dictionaries(NASTY, NASTY))
def test_data_comes_back_and_cannot_end_its_element(content):
    script = data_script(content, id="data")
    assert script.count("<") == 2
    inside = script.partition(">")[2].rpartition("<")[0]
    assert json.loads(inside) == content


def test_data_without_a_place_in_json_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        data_script([float("nan")], id="data")


def test_children_keep_their_order_and_markup_is_not_escaped_twice():
    assert joined("a", element("b", "<"), Markup("<hr>")) == "a<b>&lt;</b><hr>"


def test_attributes_without_a_value_and_reserved_names():
    assert element("p", class_="x", hidden=True, id=None, open=False) == '<p class="x" hidden></p>'
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
