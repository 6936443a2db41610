"""The pages in Firefox and in WebKit, on which Safari is built: they answer as in Chromium."""

import pandas
import pytest

import joma
import webdriver

pytestmark = pytest.mark.browser
STEPS = (0, 10, 100)
RECORDER = """<script>
for (const [target, kind] of [[window, "error"], [document, "securitypolicyviolation"]])
  target.addEventListener(kind, ({ message, blockedURI }) =>
    document.documentElement.setAttribute("data-complaint", message ?? blockedURI), true);
</script>"""


@pytest.fixture(scope="module", params=["firefox", "webkit"])
def window(request, tmp_path_factory):
    with getattr(webdriver, request.param)(tmp_path_factory.mktemp(request.param)) as session:
        yield session


def recording(path):
    """The page with a script before its content policy that records what goes wrong."""
    text, mark = path.read_text(encoding="utf-8"), '<meta charset="utf-8">'
    assert mark in text
    path.write_text(text.replace(mark, mark + RECORDER, 1), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    return recording(joma.explore().write(tmp_path_factory.mktemp("explorer")))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    rows = [("mine", step, 0, head, "attention_entropy_nats", step + head) for step in STEPS for head in (0, 1)]
    names = ["run", "step", "layer", "head", "metric", "value"]
    pandas.DataFrame(rows, columns=names).astype({"value": float}).to_parquet(folder / "metrics.parquet")
    return recording(joma.show(folder).write(folder))


def text_of(window, name):
    return window.evaluate(f"document.getElementById('{name}').textContent")


def test_the_explorer_opens_with_figure_4_and_without_an_error(window, explorer):
    window.open(explorer)
    assert "sparsest at t = 13.4 with 0.9407 nats, and is at 1.549 nats at t = 100" in text_of(window, "story")
    assert "0.9407 nats at t = 13.4" in window.evaluate("document.getElementById('entropy').textContent")
    assert window.evaluate("document.documentElement.dataset.complaint ?? null") is None


def test_the_explorer_answers_to_keys_and_drags_and_plays(window, explorer):
    window.open(explorer)
    window.evaluate("[...document.querySelectorAll('#targets [role=slider]')].at(-1).focus()")
    for _ in range(4):
        window.press("ArrowUp")
    window.wait_until("document.querySelector('#targets [aria-valuenow=\"3.89\"]') !== null")
    x, y = window.middle("#targets [role=slider]")
    window.drag((x, y), (x, y - 60))
    window.wait_until("document.querySelector('#targets [role=slider]').getAttribute('aria-valuenow') > 2")
    window.evaluate("document.getElementById('time').focus()")
    window.press("End")
    window.wait_until("document.getElementById('clocks').textContent.startsWith('t = 100 ')")
    window.press("Home")
    window.click("#play")
    window.wait_until("document.getElementById('time').value > 20")
    window.click("#play")
    assert window.evaluate("document.getElementById('play').getAttribute('aria-pressed')") == "false"
    window.wait_until("location.hash.includes('rates=')")
    story = text_of(window, "story")
    window.reload()
    assert text_of(window, "story") == story
    assert window.evaluate("document.documentElement.dataset.complaint ?? null") is None


def test_a_drag_over_a_chart_moves_the_time_and_selects_no_text(window, explorer):
    window.open(explorer)
    x, y = window.middle("#entropy svg")
    window.drag((x - 100, y), (x, y + 30))
    window.wait_until("!document.getElementById('clocks').textContent.startsWith('t = 13.4 ')")
    assert window.evaluate("String(getSelection())") == ""


def test_the_name_of_a_choice_is_on_the_line_of_what_can_be_chosen(window, explorer):
    window.open(explorer)
    boxes = "[...document.querySelectorAll('#theory fieldset')].map((set) => [...set.children].slice(0, 2)"
    tops = window.evaluate(boxes + ".map((part) => part.getBoundingClientRect().toJSON()))")
    for name, choice in tops:
        assert name["top"] < choice["bottom"]
        assert choice["top"] < name["bottom"]
        assert name["right"] <= choice["left"]


def test_heatmaps_show_the_step_next_to_the_slider_after_the_page_is_loaded_again(window, shown):
    window.open(shown)
    window.wait_until("[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.main-svg'))")
    assert window.evaluate("document.querySelector('.slider output').textContent") == "100"
    window.evaluate("document.querySelector('.slider input').focus()")
    window.press("Home")
    window.wait_until("document.querySelector('.slider output').textContent === '0'")
    window.reload()
    window.wait_until("[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.main-svg'))")
    slider, said = window.evaluate("[...document.querySelectorAll('.slider > *')].map((one) => one.value)")
    assert said == str(STEPS[int(slider)])
    assert window.evaluate("document.documentElement.dataset.complaint ?? null") is None
