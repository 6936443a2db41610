"""``joma scan``: measure attention and weights over a series of saved steps, which is looked at first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse
from jsonargparse.typing import PositiveInt

from joma.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from joma.studies.scan import Scan, Verification

_USUAL = {"measure": "attention,stable_rank", "engine": "processes", "device": "cpu"}
_SETTINGS = ("steps", "revisions", "weights")
_MEASURING = ("text", "tokenizer", "length", "sequences", "engine", "workers", "device", "with_suspects")
_NO_USE_TO_VERIFY = ("measure", *_MEASURING, "out")


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Add the options of ``joma scan``."""
    add = parser.add_argument
    add("source", metavar="SOURCE", type=str, help="a folder with saved steps, a weight file, or owner/name on the hub")
    add("--steps", type=str | int | None, metavar="LIST", help="which: 0,512,1000:143000:1000 (first:last:stride)")
    add("--revisions", type=str | None, metavar="PATTERN", help="on a hub, which revisions: stage1-*")
    add("--weights", type=str | None, help="safetensors, bin or gguf; default: the first of these that a step has")
    add(
        "--measure",
        type=str,
        default=_USUAL["measure"],
        metavar="NAMES",
        help="what, by name or kind (attention, weights, loss, all), with commas between",
    )
    add(
        "--text",
        type=str | None,
        metavar="FILE|NAME",
        help="a file, a folder, wikitext2, wikitext103; default: the text that ships with Python",
    )
    add("--tokenizer", type=str | None, metavar="NAME|FILE", help="in place of the one beside the weights")
    add("--length", type=PositiveInt | None, help="tokens of a sequence (default: 512, or the model's context)")
    add("--sequences", type=PositiveInt | None, help="how many the model reads (default: 8)")
    add(
        "--out",
        type=str | None,
        metavar="DIR",
        help="where everything goes (default: joma-scan/NAME); a second run goes on there",
    )
    add("--engine", choices=["processes", "ray"], default=_USUAL["engine"], help="where steps are measured")
    add("--workers", type=PositiveInt | None, help="steps at a time (default: as many as there are processors)")
    add("--device", choices=["cpu", "auto"], default=_USUAL["device"], help="auto: an accelerator where there is one")
    add("--keep", action="store_true", help="keep what is fetched from a hub in DIR/downloads")
    add("--verify", action="store_true", help="only look for suspects, exit with 1 if there are any")
    add("--with-suspects", action="store_true", help="let curves and verdicts go through steps that are suspect")
    add("--json", action="store_true", help="print JSON in place of tables, for machines")


def run(options: Any) -> int:
    """Look at the series, measure it, write, print, return the exit status."""
    folder = Path(options.out) if options.out else Path("joma-scan") / (Path(options.source).resolve().name or "scan")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file", expected="a folder", remedy="give another name")
    settings: dict[str, Any] = {name: getattr(options, name) for name in _SETTINGS}
    settings["steps"] = None if options.steps is None else str(options.steps)
    settings["keep"] = folder / "downloads" if options.keep else None
    if options.verify:
        _require_no_effect(options)

    from joma.studies.scan import Interrupted, scan, verify

    if options.verify:
        return _show_suspects(verify(options.source, **settings), as_json=options.json)
    settings |= {name: getattr(options, name) for name in _MEASURING} | {"measures": options.measure}
    try:
        found, interrupted = scan(options.source, out=folder, **settings), False
    except Interrupted as stop:
        found, interrupted = stop.result, True
    _show(found, folder, as_json=options.json)
    if interrupted:
        raise KeyboardInterrupt
    if not found.measured:
        raise RunFailed(
            f"none of the {len(found.steps)} steps could be measured",
            kept=f"the reasons are in {folder / 'scan.json'}",
            remedy=found.failed[0].remedy,
        )
    return 0


def _require_no_effect(options: Any) -> None:
    """Refuse options that would be ignored."""
    given = [name for name in _NO_USE_TO_VERIFY if getattr(options, name) not in (None, False, _USUAL.get(name))]
    if given:
        name = given[0].replace("_", "-")
        raise BadInput(f"--{name} has no effect with --verify", expected="one of them", remedy="leave one out")


def _show_suspects(found: Verification, *, as_json: bool) -> int:
    from dataclasses import asdict

    from joma.report.scan import suspect_table

    if as_json:
        print(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    else:
        if found.rows:
            _console().print(suspect_table(found))
        print(found.summary())
    return int(bool(found.rows))


def _show(scan: Scan, folder: Path, *, as_json: bool) -> None:
    from joma.report.scan import scan_record, scan_table

    if as_json:
        print(json.dumps(scan_record(scan), indent=1, ensure_ascii=False, allow_nan=False))
        return
    console = _console()
    console.print(scan_table(scan))
    console.print(f"the page: {(folder / 'report.html').absolute().as_uri()}", soft_wrap=True)


def _console() -> Any:
    import sys

    from rich.console import Console

    # Off a terminal there is no width to fit into, and a narrow table is hard to read.
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
