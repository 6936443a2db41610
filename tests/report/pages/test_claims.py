"""The page in a real browser: opened from a file, it loads nothing, shows everything and runs no injected text."""

import base64
import hashlib
import html
import itertools
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest

from browsing import wait_until
from joma.claims.evaluation import Outcome
from joma.claims.registry import OWN
from joma.report.pages.claims import page, write_page
from joma.terminal import printable

pytestmark = pytest.mark.browser

ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


DRAWN = """[...document.querySelectorAll('.plot')].filter((p) => !p.closest('details:not([open])'))
  .every((p) => p.querySelector('.xtick'))"""


def unfold(tab) -> None:
    tab.get_by_role("button", name="Unfold all").click()


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(names)} is on the path")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(outcomes, context, tmp_path_factory):
    return write_page(outcomes, context, tmp_path_factory.mktemp("out") / "report.html")


@pytest.fixture
def visit(browser, report):
    """Open the report; fail on every console error and every request to another file."""

    @contextmanager
    def visiting(viewport=DESKTOP, *, unfolded=True, **options):
        complaints: list[str] = []
        with browser.new_context(viewport=viewport, **options) as context:
            tab = context.new_page()
            tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
            tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            tab.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            tab.on(
                "request", lambda request: complaints.append(request.url) if request.url != report.as_uri() else None
            )
            tab.goto(report.as_uri())
            if unfolded:
                unfold(tab)
            wait_until(tab, DRAWN)
            yield tab
            assert not complaints

    return visiting


def shown_charts(outcomes) -> int:
    return sum(len(outcome.agreement.charts) for outcome in outcomes if outcome.agreement)


def test_it_is_complete_in_one_visit(visit, outcomes, context):
    with visit() as tab:
        assert tab.title() == context.title
        lines = tab.locator(".claim > details > summary")
        assert lines.count() == len(outcomes)
        for outcome in outcomes:
            article = tab.locator(f'[id="claim-{outcome.claim.id}"]')
            assert outcome.claim.id in article.locator("summary h3").inner_text()
            reference = outcome.claim.reference
            for text in (reference.statement, reference.formula, reference.source, *reference.assumptions):
                assert article.get_by_text(text, exact=True).count() >= 1, text
            assert article.get_by_text(context.command(outcome.claim.id), exact=True).count() == 1
        assert tab.get_by_text(context.command(*(outcome.claim.id for outcome in outcomes)), exact=True).count() == 1
        assert tab.locator("h1, h2").first.inner_text() == context.title
        for text in (context.text, "quick", "3 per claim", "4 min", "2.13.0"):
            assert tab.get_by_text(text, exact=True).count() >= 1, text


def test_every_chart_is_drawn_once_with_every_curve(visit, outcomes):
    with visit() as tab:
        plots = tab.locator(".plot")
        assert plots.count() == shown_charts(outcomes)
        for plot in plots.all():
            lines = plot.locator(".scatterlayer .js-line").count()
            buttons = plot.locator("xpath=..").locator(".legend button").count()
            assert lines >= buttons > 0
        charts = [chart for outcome in outcomes if outcome.agreement for chart in outcome.agreement.charts]
        flags = plots.nth(0).locator(".annotation-text").all_text_contents()
        lead = next(chart for chart in charts if chart.id == "entropy")
        assert sorted(flags) == sorted(mark.text for mark in lead.marks)


def test_the_picture_of_the_phenomenon_follows_the_opening_and_what_does_not_hold_comes_before_what_holds(visit):
    with visit(unfolded=False) as tab:
        assert tab.locator(".lead .plot").get_attribute("data-plot") == "text.sparse_then_dense/entropy"
        places = [tab.locator(name).bounding_box()["y"] for name in (".opening", ".lead", "#fails", "#open", "#holds")]
        assert places == sorted(places)
        (why,) = tab.locator("#open .why").all_inner_texts()
        assert "(the network with a linear MLP) meets the criterion too: it takes another test" in why


def test_the_opening_is_written_from_the_verdicts_and_leads_to_the_claims(visit, outcomes):
    with visit(unfolded=False) as tab:
        text = tab.locator(".opening").inner_text()
        assert "the dip of attention entropy and the rise after it holds" in text
        assert "the loss and return of the MLP's rank is undecided" in text
        assert "the nonlinearity of the MLP as the cause of a rise of attention entropy does not hold" in text
        tab.locator(".opening a", has_text="nonlinearity").click()
        claim = tab.locator('[id="claim-text.mechanism"]').element_handle()
        wait_until(tab, "(node) => node.open && node.getBoundingClientRect().top < innerHeight", claim)
        wait_until(tab, DRAWN)


def test_each_term_is_explained_once_where_it_stands_first(visit):
    with visit() as tab:
        terms = tab.locator("dfn").all_inner_texts()
        assert len(terms) == len(set(terms)) > 3
        assert "Attention entropy" in tab.locator("header dfn").all_inner_texts()


def test_the_claims_of_a_plain_run_take_six_screens_before_anything_is_unfolded(browser, agreements, context, tmp_path):
    found = list(agreements.values())
    every = [
        Outcome(replace(claim, evaluate="joma:nothing"), found[number % len(found)], "", 1.0)
        for number, claim in enumerate(claim for claim in OWN if claim.by_default)
    ]
    path = write_page(every, context, tmp_path / "report.html")
    with browser.new_context(viewport=DESKTOP) as window:
        tab = window.new_page()
        tab.goto(path.as_uri())
        wait_until(tab, DRAWN)
        assert tab.evaluate("document.documentElement.scrollHeight") <= 6 * DESKTOP["height"]


def test_claims_are_unfolded_and_folded_by_keyboard_and_draw_their_charts_then(visit):
    with visit(unfolded=False) as tab:
        line = tab.locator('[id="claim-text.rank_drop"] > summary')
        plot = tab.locator('.plot[data-plot="text.rank_drop/hostile"]')
        assert plot.locator(".xtick").count() == 0
        line.focus()
        tab.keyboard.press("Enter")
        wait_until(tab, DRAWN)
        assert plot.locator(".xtick").count() > 0
        tab.keyboard.press("Space")
        assert not plot.is_visible()


def test_a_link_to_a_claim_opens_it(browser, report):
    with browser.new_context(viewport=DESKTOP) as window:
        tab = window.new_page()
        tab.goto(f"{report.as_uri()}#claim-text.rank_drop")
        wait_until(tab, DRAWN)
        assert tab.locator('[data-plot="text.rank_drop/hostile"] .xtick').count() > 0


def test_charts_side_by_side_share_their_baselines(visit):
    with visit() as tab:
        rows = tab.locator('[id="claim-text.mechanism"] .chart .nsewdrag').evaluate_all(
            "(nodes) => nodes.map((node) => node.getBoundingClientRect().bottom)"
        )
        assert abs(rows[0] - rows[1]) < 1


def test_paper_and_code_are_at_hand(visit):
    with visit() as tab:
        assert tab.locator('nav a[href="https://arxiv.org/abs/2310.00535"]').count() == 1
        assert tab.locator('article a[href="https://arxiv.org/abs/2310.00535"]').count() == 5
        code = tab.locator('[id="claim-text.mechanism"] .code')
        code.locator("summary").click()
        assert "import" in code.locator("pre").inner_text()


def test_hostile_texts_stay_texts(visit, hostile_chart):
    seen = " ".join(printable(hostile_chart.title).removeprefix("Title ").split())
    assert "<script>" in seen
    with visit() as tab:
        text = " ".join(tab.locator("body").inner_text().split())
        assert text.count("<script>alert(1)</script>") > 15
        figure = tab.locator('article .plot[data-plot="text.rank_drop/hostile"]').locator("xpath=..")
        assert " ".join(figure.locator("h3").inner_text().split()) == f"Title {seen}"
        labels = [" ".join(label.split()) for label in figure.locator(".legend button").all_inner_texts()]
        assert labels[0] == f"Curve {seen}"
        assert sorted(figure.locator(".annotation-text").all_text_contents()) == sorted(
            mark.text for mark in hostile_chart.marks
        )
        scripts = tab.locator("script").count()
        assert scripts == 3  # the data, plotly and the page's own
        assert tab.locator("article b, .plot a, figure b").count() == 0


def test_values_under_the_pointer_are_shown_in_the_legend(visit, hostile_chart):
    with visit() as tab:
        plot = tab.locator('article .plot[data-plot="text.rank_drop/hostile"]')
        plot.scroll_into_view_if_needed()
        area = plot.locator(".nsewdrag").bounding_box()
        tab.mouse.move(area["x"] + area["width"] * 0.99, area["y"] + area["height"] * 0.5)
        readings = plot.locator("xpath=..").locator(".legend .reading")
        wait_until(tab, "(node) => node.textContent !== ''", readings.first.element_handle())
        assert readings.all_inner_texts() == [f"{curve.y[-1]:g}" for curve in hostile_chart.curves]
        assert plot.locator("xpath=..").locator(".axis-label.x .reading").inner_text() == "300"


def test_a_curve_is_hidden_with_its_band_and_shown_again(visit):
    with visit() as tab:
        figure = tab.locator(".lead figure")
        lines = figure.locator(".scatterlayer .js-line")
        before = lines.count()
        button = figure.locator(".legend button").first
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert lines.count() == before - 3
        button.press("Enter")
        assert lines.count() == before


def test_light_and_dark_and_the_change_between_them(visit):
    def look(tab) -> tuple[str, str]:
        line = tab.locator(".lead .scatterlayer .js-line").last
        return (
            tab.evaluate("getComputedStyle(document.body).backgroundColor"),
            line.evaluate("(node) => getComputedStyle(node).stroke"),
        )

    with visit(color_scheme="light") as tab:
        seen = [look(tab)]
        for scheme in ("dark", "light"):
            tab.emulate_media(color_scheme=scheme)
            tab.wait_for_timeout(300)
            seen.append(look(tab))
    light, dark, again = seen
    assert light == again
    assert light[0] == "rgb(255, 255, 255)"
    assert light[0] != dark[0]
    assert light[1] != dark[1]


def test_nothing_overflows_the_window(visit):
    inside = "(nodes) => nodes.every((node) => node.getBoundingClientRect().right <= innerWidth + 1)"
    with visit(PHONE, has_touch=True, is_mobile=True) as tab:
        for width in (390, 320, 600, 768, 1280):
            tab.set_viewport_size({"width": width, "height": 844})
            tab.wait_for_timeout(300)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            for kind in ("td, th", "figure", "pre", ".badge", ".legend button", ".main-svg"):
                assert tab.locator(kind).evaluate_all(inside), (width, kind)


def test_a_long_claim_id_is_broken_on_a_phone(browser, outcomes, context, tmp_path):
    claim = outcomes[0].claim
    named = replace(claim, reference=replace(claim.reference, id="a_long_family.of_claims_with_long_names"))
    path = write_page([replace(outcomes[0], claim=named)], context, tmp_path / "report.html")
    with browser.new_context(viewport=PHONE) as window:
        tab = window.new_page()
        tab.goto(path.as_uri())
        unfold(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_a_character_that_turns_the_direction_of_text_is_shown_as_an_escape(browser, outcomes, context, tmp_path):
    known = next(outcome for outcome in outcomes if outcome.agreement)
    chart = known.agreement.charts[0]
    turned = replace(chart, curves=(replace(chart.curves[0], label="\u202eevruc", role="control"),))
    shown = replace(known, agreement=replace(known.agreement, charts=(turned,)))
    path = write_page([shown], context, tmp_path / "report.html")
    with browser.new_context(viewport=DESKTOP) as window:
        tab = window.new_page()
        tab.goto(path.as_uri())
        label = tab.locator(".lead .legend button span").first
        assert label.inner_text() == "\\u202eevruc control"
        letters = """({ firstChild: text }) => [0, text.length - 1].map((place) => {
          const range = document.createRange();
          range.setStart(text, place), range.setEnd(text, place + 1);
          return range.getBoundingClientRect().left;
        })"""
        for text in (label, label.locator("small")):
            first, last = text.evaluate(letters)
            assert first < last


def test_everything_has_a_name_for_screen_readers(visit, outcomes):
    with visit() as tab:
        for plot in tab.locator(".plot").all():
            assert plot.get_attribute("role") == "img"
            assert len(plot.get_attribute("aria-label")) > 40
        assert tab.get_by_role("table").count() == tab.locator("table > caption").count() > 0
        levels = tab.locator("h1, h2, h3").evaluate_all("(nodes) => nodes.map((node) => Number(node.tagName[1]))")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_policy_allows_these_scripts_and_no_network(outcomes, context):
    text = page(outcomes, context)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in html.unescape(policy)


def test_an_injected_script_does_not_run(browser, report, tmp_path):
    text = report.read_text(encoding="utf-8").replace("<main>", "<main><script>document.title = 'run'</script>", 1)
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    with browser.new_context() as window:
        tab = window.new_page()
        tab.goto(path.as_uri())
        assert tab.locator("main script").count() == 1
        assert tab.title() == "joma reproduce"


def test_a_page_is_written_without_any_evidence(browser, outcomes, context, tmp_path):
    failed = [outcome for outcome in outcomes if outcome.error]
    path = write_page(failed, context, tmp_path / "report.html")
    with browser.new_context() as window:
        tab = window.new_page()
        tab.goto(path.as_uri())
        assert tab.locator(".plot").count() == 0
        assert "loss is NaN at step 40" in tab.locator("#failed .why").inner_text()


def test_a_skipped_claim_is_distinguished_from_failures(browser, outcomes, context, tmp_path):
    reason = "the hub did not answer; check the network"
    known, failed = (next(outcome for outcome in outcomes if bool(outcome.error) is wanted) for wanted in (False, True))
    skipped = replace(known, agreement=None, skipped=reason)
    path = write_page([skipped, failed], context, tmp_path / "report.html")
    with browser.new_context() as window:
        tab = window.new_page()
        tab.goto(path.as_uri())
        assert tab.locator(".tally .badge").all_inner_texts() == ["– not evaluated", "– skipped"]
        assert tab.locator("#skipped .why.skipped").inner_text() == reason
        red, quiet = (
            tab.locator(f".why.{kind}").evaluate("(node) => getComputedStyle(node).color")
            for kind in ("error", "skipped")
        )
        assert red != quiet


def test_a_page_that_cannot_be_written_leaves_the_old_one(outcomes, context, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("the page of yesterday")
    nothing = replace(outcomes[0], claim=None)
    with pytest.raises(AttributeError):
        write_page([nothing], context, path)
    assert path.read_text() == "the page of yesterday"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_file_name_that_is_not_valid_text_is_shown_escaped(outcomes, context, tmp_path):
    path = write_page(outcomes, replace(context, text="file \udcff.txt"), tmp_path / "report.html")
    assert "file \\udcff.txt" in path.read_text(encoding="utf-8")
