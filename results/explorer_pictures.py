"""Photograph three moments of the explorer for docs/explore.md: the opening, a blow-up on a phone, a run in dark.

It takes Chromium and the package playwright.

    python results/explorer_pictures.py
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from joma.files import replacing
from joma.studies.explore import explore

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
NUM_COLOURS = 128
BLOW_UP = "mlp=linear&attention=exp&rates=0.5,1,1.7,2&v0=0&gain=0.5&end=1&component=3&at=0.62"


class Moment(NamedTuple):
    """What is set, and where the window is.

    Args:
        address: what is set, as in the page's address.
        first: the element at the top of the window.
        width: of the window, in pixels.
        height: of the window, in pixels.
        scheme: ``light`` or ``dark``.
    """

    address: str
    first: str
    width: int
    height: int
    scheme: str


MOMENTS = {
    "opening": Moment("", "#theory", 1000, 900, "light"),
    "blow_up": Moment(BLOW_UP, "#targets", 390, 760, "dark"),
    "run": Moment("at=0.5", "#run", 1000, 1000, "dark"),
}


def photograph(browser: Browser, page: Path, moment: Moment) -> Image.Image:
    """Return a picture of the window, with few colours, so that its file is small."""
    size = {"width": moment.width, "height": moment.height}
    tab = browser.new_page(viewport=size, color_scheme=moment.scheme, reduced_motion="reduce")
    tab.goto(f"{page.as_uri()}#{moment.address}")
    tab.wait_for_selector("#entropy path.line")
    tab.evaluate("(first) => document.querySelector(first).closest('section, figure').scrollIntoView()", moment.first)
    tab.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    tab.close()
    return shot.quantize(NUM_COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    """Write the pictures."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = explore().write(folder)
        browser = playwright.chromium.launch(executable_path=executable, args=["--headless", "--no-sandbox"])
        for name, moment in MOMENTS.items():
            with replacing(PICTURES / f"explorer_{name}.png") as path:
                photograph(browser, page, moment).save(path, format="PNG", optimize=True)
            print(f"explorer_{name}.png: {(PICTURES / f'explorer_{name}.png').stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
