"""The page of `joma show` in a real browser."""

import numpy as np
import pandas
import pytest

import joma
from browsing import chromium, wait_until

STEPS, LAYERS, HEADS = np.unique(np.geomspace(1, 3001, 40).astype(int)) - 1, 3, 4
NAME = "<b>\u202emine"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    generator = np.random.default_rng(0)
    rows = [(NAME, step, None, None, "val_loss_nats", 3 + 7 * np.exp(-step / 600)) for step in STEPS]
    for layer in range(LAYERS):
        for head in range(HEADS):
            values = np.interp(STEPS, [0, 600, 1500, 3000], [4.0, 4.0, 1.5, 2.5]) + generator.normal(
                0, 0.01, len(STEPS)
            )
            rows += [(NAME, s, layer, head, "attention_entropy_nats", v) for s, v in zip(STEPS, values, strict=True)]
            rows += [(NAME, s, layer, head, "attention_first_token_share", s / 3000 * 0.9) for s in STEPS]
    folder.mkdir()
    table = pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"])
    table.to_parquet(folder / "metrics.parquet")
    return joma.show(folder).write(folder)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_picture_is_there_and_the_slider_sets_the_step_of_all_heads(page, width, scheme):
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: complaints.append(request.url) if request.url != page.as_uri() else None)
        tab.goto(page.as_uri())
        wait_until(tab, "[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.main-svg'))")
        assert tab.locator(".multiples polyline").count() == LAYERS * HEADS
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert "Attention became sparser" in tab.locator(".statement").inner_text()
        assert "<b>\\u202emine" in tab.locator("h2").first.inner_text()
        slider = tab.locator(".slider input")
        slider.focus()
        tab.keyboard.press("Home")
        assert tab.locator(".slider output").inner_text() == "0"
        first = tab.evaluate("document.querySelector('[data-plot$=share_film]').data[0].z")
        assert first == [[0] * HEADS] * LAYERS
        tab.keyboard.press("End")
        last = tab.evaluate("document.querySelector('[data-plot$=share_film]').data[0].z")
        assert last == [[0.9] * HEADS] * LAYERS
    assert complaints == []


@pytest.fixture
def tab():
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 900})


DRAWN = "[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.main-svg'))"


@pytest.mark.browser
def test_heatmaps_show_the_step_of_the_slider_when_the_page_is_come_back_to(tab, page):
    tab.goto(page.as_uri())
    wait_until(tab, DRAWN)
    tab.locator(".slider input").focus()
    tab.keyboard.press("Home")
    tab.goto("about:blank")
    tab.go_back()
    wait_until(tab, DRAWN)
    step, value = ("0", 0) if tab.locator(".slider input").input_value() == "0" else ("3,000", 0.9)
    assert tab.locator(".slider output").inner_text() == step
    drawn = tab.evaluate("document.querySelector('[data-plot$=share_film]').data[0].z")
    assert drawn == [[value] * HEADS] * LAYERS


@pytest.mark.browser
def test_on_paper_a_chart_has_the_height_of_its_drawing_whatever_the_width(tab, page):
    tab.goto(page.as_uri())
    wait_until(tab, DRAWN)
    tab.evaluate("void dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 500, "height": 700})
    sizes = """[...document.querySelectorAll('.plot')].map((p) =>
        [p.clientHeight, p.querySelector('.main-svg').getAttribute('height')].map(Number))"""
    assert all(box == drawing for box, drawing in tab.evaluate(sizes))
    tab.evaluate("void dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("[...document.querySelectorAll('.plot')].every((p) => p.style.height === '')")
