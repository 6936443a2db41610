"""The page of a scan in a real browser."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from made_scan import HOSTILE, LAYERS, made_scan

from browsing import wait_until
from joma.measure.curves.quantities import shown_verdicts
from joma.measure.scan.results import probes_of
from joma.measure.scan.scanned import Scan
from joma.report.pages.scan import scan_page, write_scan
from joma.report.scan import heatmaps


@pytest.fixture(scope="module")
def scan() -> Scan:
    return made_scan()


@pytest.fixture(scope="module")
def written(scan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    path = write_scan(scan, folder, created=datetime(2026, 11, 23, tzinfo=UTC), versions={"torch": HOSTILE})
    names = {file.name for file in (folder / "figures").iterdir()}
    assert {"stable_rank_mlp_lower.svg", "attention_entropy_nats_layers_heads_sparsest.png"} <= names
    return path


def test_a_name_in_a_sentence_turns_nothing_around_and_commands_nothing(scan):
    odd = "layers.\u202e\x1b[31m\u2066.weight"
    suspect = replace(scan.verification.rows[0], evidence=f"{odd} is NaN in 3 of 9", remedy=f"look at {odd}")
    failed = [replace(found, reason=f"it holds {odd}", remedy=odd) for found in scan.failed]
    noted = [replace(found, notes=(f"{odd} is left out",)) for found in scan.measured]
    named = replace(
        scan,
        source=f"someone/{odd}",
        text=odd,
        results=(*noted, *failed),
        verification=replace(scan.verification, rows=(suspect,)),
    )
    page = scan_page(named, created=datetime(2026, 11, 23, tzinfo=UTC), versions={})
    assert not set("\u202e\x1b\u2066") & set(page)
    for text in (" is NaN in 3 of 9", " is left out", "look at layers", "it holds layers"):
        assert text in page
    assert page.count("layers.\\u202e\\u001b[31m\\u2066.weight") >= 7


@pytest.mark.browser
def test_the_page_in_a_browser(scan, written):
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no browser on this machine")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        tab, complaints = browser.new_page(), []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        tab.on("request", lambda request: complaints.append(request.url) if request.url != written.as_uri() else None)
        tab.goto(written.as_uri())
        wait_until(tab, "[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.xtick'))")
        headings = tab.locator("h2").all_inner_texts()
        assert headings[0] == "Suspects"
        assert headings.index("Verdicts per layer") < headings.index("Over the steps")
        rows = tab.locator("table").nth(2).locator("tbody tr")
        assert rows.count() == len(shown_verdicts(probes_of(scan.measured))) == 2 * LAYERS
        assert "fell and came back" in rows.first.inner_text()
        assert tab.locator(".heatmaplayer .hm").count() == sum(map(len, heatmaps(scan)))
        place = tab.locator('.plot[data-plot="map/stable_rank_mlp_lower_steps_layers"]')
        place.scroll_into_view_if_needed()
        area = place.locator(".nsewdrag").bounding_box()
        tab.mouse.move(area["x"] + area["width"] * 0.02, area["y"] + area["height"] * 0.95)
        reading = place.locator("xpath=..").locator(".axis-label.x .reading")
        wait_until(tab, "(node) => node.textContent !== ''", reading.element_handle())
        assert reading.inner_text() == "step 0, layer 0: 15"
        assert HOSTILE in tab.locator("body").inner_text()
        assert tab.locator("script").count() == 3
        browser.close()
    assert not complaints
