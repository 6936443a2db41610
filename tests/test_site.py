"""The site: every page is in its navigation, nothing is fetched from another host, and search works."""

import http.server
import re
import shutil
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import build_site
import pytest
import tutorials

ALONE = {"404", "explorer"}
"""Pages of the site that no Markdown file is the source of."""


def names(navigation: list[Any]) -> Iterator[str]:
    """Yield the pages of a navigation, in its order."""
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
        else:
            (content,) = entry.values()
            yield from names(content)


def test_every_page_has_one_place_in_the_navigation():
    listed = list(names(tomllib.loads(build_site.settings())["project"]["nav"]))
    assert sorted(listed) == sorted(build_site.sources())


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if not build_site.ZENSICAL.exists():
        pytest.skip("zensical is not installed: pip install 'joma[docs]'")
    folder = tmp_path_factory.mktemp("build")
    build_site.build(folder, execute=False)
    return folder / "site"


def test_every_page_is_built_and_fetches_nothing_from_another_host(site):
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert pages.keys() - {f"{name}.html" for name in ALONE} == {
        name.removesuffix(".md") + ".html" for name in build_site.sources()
    }
    fetched = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?https?:|<link\b[^>]*\bhref=\"?https?:|@import")
    assert fetched.search('<script src="https://example.org/x.js">')
    assert not [name for name, text in pages.items() if fetched.search(text)]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?https?:|@import", styles)


def test_every_link_leads_to_a_place_of_the_site(site):
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html") if path.stem not in ALONE}
    places = {path: set(re.findall(r'\sid="?([^"\s>]+)', text)) for path, text in texts.items()}
    links = re.compile(r'<(?:a|img|iframe)\b[^>]*?\s(?:href|src)="?([^"\s>]+)')
    broken, num_fragments = [], 0
    for path, text in texts.items():
        for link in links.findall(text):
            address, _, fragment = unquote(link).partition("#")
            if not re.match(r"\w+:", address):
                target = (path.parent / address).resolve() if address else path
                num_fragments += bool(fragment)
                if not target.exists() or (fragment and fragment not in places.get(target, {fragment})):
                    broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken
    assert num_fragments > 100


def test_links_of_notebooks_lead_to_pages_of_the_site(site):
    jupytext, links = pytest.importorskip("jupytext"), re.compile(r"\]\((?!\w+:)([^)#]+)")
    found = [
        link
        for path in tutorials.TUTORIALS.values()
        for cell in tutorials.with_links_to_pages(jupytext.read(path)).cells
        for link in links.findall(cell.source if cell.cell_type == "markdown" else "")
    ]
    assert len(found) > 10
    assert not [link for link in found if not (site / "tutorials" / link).exists()]


@pytest.mark.browser
def test_search_works_and_both_schemes_fit_a_phone_without_another_host(site):
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no browser on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, requested, backgrounds = f"http://127.0.0.1:{server.server_port}/", [], {}
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=["--headless", "--no-sandbox"])
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
            tab.on("request", lambda request: requested.append(request.url))
            for page in ("paper.html", "tutorials/write-a-claim.html", "api/solve.html", ""):
                tab.goto(host + page)
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), page
            backgrounds[scheme] = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.keyboard.press("/")
        tab.keyboard.type("blow-up time")
        tab.get_by_role("listbox").get_by_text("joma.blow_up_time").first.click()
        tab.wait_for_url("**/api/blow_up_time.html*")
        followed = explorer_backgrounds(browser, host)
        browser.close()
    server.shutdown()
    assert followed["slate"] < 60 < 200 < followed["default"]
    brightness = {scheme: max(map(int, re.findall(r"\d+", found)[:3])) for scheme, found in backgrounds.items()}
    assert brightness["dark"] < 60 < 200 < brightness["light"]
    assert not [url for url in requested if not url.startswith((host, "data:", "blob:"))]


def explorer_backgrounds(browser, host):
    """How bright the explorer on the start page is, by the scheme that the site's switch chooses."""
    tab, found = browser.new_page(color_scheme="null"), {}  # an emulated scheme would be that of the frame, too
    tab.goto(host)
    tab.locator("iframe").scroll_into_view_if_needed()
    frame = tab.frame_locator("iframe").locator("body")
    for scheme in ("slate", "default"):
        tab.evaluate("(scheme) => document.body.setAttribute('data-md-color-scheme', scheme)", scheme)
        tab.wait_for_timeout(100)
        colour = frame.evaluate("(body) => getComputedStyle(body).backgroundColor")
        found[scheme] = max(map(int, re.findall(r"\d+", colour)[:3]))
    return found
