"""``joma scan``: measure attention and weights over a series of saved steps, which is verified first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.errors import BadInput

if TYPE_CHECKING:
    from joma.studies.scan import Scan

FILES = ("report.html", "explorer.html", "metrics.parquet", "scan.json", "figures/", "scan.jsonl")
_USUAL = {"measures": "attention,stable_rank", "engine": "processes", "device": "cpu"}
_SETTINGS = ("steps", "revisions", "weights")
_MEASURING = ("measures", "text", "tokenizer", "length", "sequences", "engine", "workers", "device", "with_suspects")


def add_options(parser: Parser) -> None:
    """Add the options of ``joma scan``."""
    add = parser.add_argument
    add("source", metavar="SOURCE", type=str, help="a folder with saved steps, a weight file, or owner/name on the hub")
    add("--steps", type=str | int | list, metavar="LIST", help="which: 0,512,1000:143000:1000 (first:last:stride)")
    add("--revisions", type=str, metavar="PATTERN", help="on a hub, which revisions: stage1-*")
    add("--weights", choices=["safetensors", "bin", "gguf"], help="default: the first of these that a step has")
    add(
        "--measures",
        type=str,
        default=_USUAL["measures"],
        metavar="NAMES",
        help="what, by name or kind (attention, weights, loss, all), with commas between",
    )
    parser.share("--text")
    add("--tokenizer", type=str, metavar="NAME|FILE", help="in place of the one saved with the weights")
    add("--length", type=PositiveInt, metavar="N", help="tokens of a sequence (default: 512, or the model's context)")
    add("--sequences", type=PositiveInt, metavar="N", help="how many the model reads (default: 8)")
    add("--out", type=str, metavar="DIR", help="default: joma-scan/NAME; a second run goes on there")
    parser.share("--engine", "--device", "--workers")
    parser.share("--keep")
    add("--verify", action="store_true", help="only look for suspects, exit with 1 if there are any")
    add("--with-suspects", action="store_true", help="let curves and verdicts go through steps that are suspect")
    parser.share("--json")


def run(options: Any) -> int:
    """Verify the series, measure it, write, print, return the exit status."""
    folder = folder_of(options.out) or Path("joma-scan") / (Path(options.source).resolve().name or "scan")
    settings: dict[str, Any] = {name: getattr(options, name) for name in _SETTINGS}
    settings["steps"] = str(options.steps) if isinstance(options.steps, int) else options.steps
    settings["keep"] = folder / "downloads" if options.keep else None
    measuring = {name: getattr(options, name) for name in _MEASURING}
    if options.verify:
        return _verify(options, settings, measuring)

    from joma.report.scan import scan_record, scan_table
    from joma.studies.scan import Interrupted, scan

    try:
        found, interrupted = scan(options.source, out=folder, **settings, **measuring), False
    except Interrupted as stop:
        found, interrupted = stop.result, True
    show(scan_record(found), [scan_table(found)], as_json=options.json)
    conclude(found.summary(), folder, _files(found), as_json=options.json)
    if interrupted:
        raise KeyboardInterrupt
    return 0 if found.measured else 1


def _verify(options: Any, settings: dict[str, Any], measuring: dict[str, Any]) -> int:
    """Verify the series alone; options that would be ignored are refused."""
    unused = measuring | {"out": options.out}
    for name in [name for name, value in unused.items() if value not in (None, False, _USUAL.get(name))]:
        option = f"--{name.replace('_', '-')}"
        raise BadInput(f"{option} has no effect with --verify", expected="one of them", remedy="leave one out")

    from joma.report.scan import suspect_table
    from joma.studies.scan import verify

    found = verify(options.source, **settings)
    show(asdict(found), [suspect_table(found)] if found.rows else [], as_json=options.json)
    conclude(found.summary(), None, (), as_json=options.json)
    return int(bool(found.rows))


def _files(found: Scan) -> tuple[str, ...]:
    return FILES if found.measured else tuple(name for name in FILES if not name.startswith("figures"))
