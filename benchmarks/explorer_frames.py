"""Frames a second of the explorer, while something is moved and while the page plays, and what a frame costs.

In Chromium, as wide as on a screen and as on a phone: the first part is in the window, and for three seconds the gain's
slider (that of c for linear attention), the start's, or a target moves at every frame, or the page plays. A frame's
costs are processor time of the page's main thread, on average: in scripts, and in everything (layout and painting,
too); they hold on a busy machine as well. Aims, in every setting: 58 frames a second, and less than 16.7 ms for
everything. It takes Chromium and the package playwright.

    python benchmarks/explorer_frames.py [--json] [--seconds 3]
"""

import argparse
import itertools
import shutil
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

import joma
from table import machine, print_json, show

SETTINGS = {
    "Figure 4": "",
    "exp attention": "attention=exp&end=12",
    "linear attention": "attention=linear&end=6",
    "linear MLP, softmax": "mlp=linear",
    "blow-up": "mlp=linear&attention=exp&rates=0.5,1,1.7,2&v0=0&gain=0.5&end=1",
    "16 components": "rates=" + ",".join(str(1 + k / 5) for k in range(16)),
}
WIDTHS = (1280, 390)
FRAMES_PER_SECOND, FRAME_MS = 58, 1000 / 60

MOVED = ("gain", "start", "target", "play")

MOVE = """([moved, seconds]) => new Promise((done) => {
    const stamps = [], target = document.querySelector("#targets [role=slider]:last-of-type");
    const gain = State.get().attention === "linear" ? "constant" : "gain";
    const slider = document.getElementById({ gain, start: "v0" }[moved]);
    const frame = (stamp) => {
        stamps.push(stamp);
        if (stamp - stamps[0] >= 1000 * seconds) return done(stamps);
        const phase = (stamp - stamps[0]) / 300;
        if (moved === "target") {
            const key = Math.cos(phase) > 0 ? "ArrowUp" : "ArrowDown";
            target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        } else if (slider) {
            const share = (1 + Math.sin(phase)) / 2;
            slider.value = Number(slider.min) + share * (slider.max - slider.min);
            slider.dispatchEvent(new Event("input", { bubbles: true }));
        }
        requestAnimationFrame(frame);
    };
    if (moved === "play") document.getElementById("play").click();
    requestAnimationFrame(frame);
})"""


def frames(tab: Page, moved: str, seconds: float) -> dict[str, float]:
    """Frames a second, the share of frames that took two turns of the screen or more, and the costs of a frame."""
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> dict[str, float]:
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}

    before = spent()
    stamps = tab.evaluate(MOVE, [moved, seconds])
    after = spent()
    waits = [late - early for early, late in itertools.pairwise(stamps)]
    cost = {name: 1000 * (after[name] - before[name]) / len(waits) for name in ("ScriptDuration", "TaskDuration")}
    return {
        "frames_per_second": 1000 * len(waits) / sum(waits),
        "late_share": statistics.fmean(wait > 1.5 * FRAME_MS for wait in waits),
        "script_ms": cost["ScriptDuration"],
        "main_thread_ms": cost["TaskDuration"],
    }


def figures(browser: Browser, page: Path, seconds: float) -> dict[str, Any]:
    place, rows = machine(), []
    for name, address in SETTINGS.items():
        for width in WIDTHS:
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.goto(f"{page.as_uri()}#{address}")
            tab.locator("#entropy").scroll_into_view_if_needed()
            tab.wait_for_timeout(500)
            about = {"setting": name, "width": width}
            rows += [about | {"moved": moved} | frames(tab, moved, seconds) for moved in MOVED]
            tab.close()
    met = {
        f"{FRAMES_PER_SECOND} frames a second": min(row["frames_per_second"] for row in rows) >= FRAMES_PER_SECOND,
        f"a frame below {FRAME_MS:.1f} ms": max(row["main_thread_ms"] for row in rows) < FRAME_MS,
    }
    return {"machine": place, "chromium": browser.version, "seconds": seconds, "met": met, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = joma.explore().write(folder)
        browser = playwright.chromium.launch(executable_path=executable, args=["--headless", "--no-sandbox"])
        found = figures(browser, page, arguments.seconds)
        browser.close()
    if arguments.json:
        print_json(found)
        return
    rows = [
        (
            row["setting"],
            str(row["width"]),
            row["moved"],
            f"{row['frames_per_second']:.1f}",
            f"{row['late_share']:.0%}",
            *(f"{row[name]:.1f} ms" for name in ("script_ms", "main_thread_ms")),
        )
        for row in found["rows"]
    ]
    aims = "; ".join(f"{aim}, {'met' if met else 'missed'}" for aim, met in found["met"].items())
    columns = ("setting", "width", "moved", "frames a second", "late", "scripts, a frame", "all, a frame")
    show(f"The explorer in Chromium {found['chromium']} ({aims})", columns, rows, found["machine"])


if __name__ == "__main__":
    main()
