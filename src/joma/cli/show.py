"""``joma show``: what happened in a training run, in words and on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.errors import BadInput, cause_of
from joma.files import expanded

if TYPE_CHECKING:
    from joma.studies.result import Result


def add_options(parser: Parser) -> None:
    """Add the options of ``joma show``."""
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", type=str, help="folders or tables of measurements; several are compared")
    add("--out", type=str, metavar="DIR", help="folder of the page (default: the first PATH, or the folder it is in)")
    add("--png", action="store_true", help="write every picture as PNG and SVG too, in DIR/figures")
    add("--follow", action="store_true", help="serve the page on this machine and update it while training goes on")
    add("--port", type=PositiveInt, metavar="N", help="port of --follow (default: any free one)")
    add(
        "--sentence",
        type=str,
        metavar="TEXT",
        help="who attends to whom in this sentence, over the saved steps",
    )
    add("--tokenizer", type=str, metavar="NAME", help="of --sentence: a file, a folder or a name on the hub")
    parser.share("--json")


def run(options: Any) -> int:
    """Read, write the page, print what happened, return the exit status."""
    from joma.report.pages.document import EXPLORER
    from joma.report.show import remark_table, show_record
    from joma.studies.show import show as read

    first = expanded(options.paths[0])
    folder = folder_of(options.out) or (first if first.is_dir() else first.parent)
    for name, needs in (("tokenizer", "sentence"), ("port", "follow")):
        if getattr(options, name) is not None and not getattr(options, needs):
            raise BadInput(f"`{name}` has no effect without --{needs}", expected="both", remedy="leave it out")
    if options.sentence is not None:
        return _sentence(options, folder)
    if options.follow:
        return _follow(options)
    found = read(*options.paths)
    page = found.write(folder)
    files = [page.name, EXPLORER, *_pictures(found, folder, options)]
    for name, heads in found.multiples().items() if options.png else ():
        heads.write(folder / "figures" / name)
    record = show_record(found.remarks, found.phases.frame()) if options.json else {}
    show(record, [remark_table(found.remarks)], as_json=options.json)
    conclude(found.summary(), folder, files, as_json=options.json)
    return 0


def _sentence(options: Any, folder: Path) -> int:
    """Read one sentence's attention, write its page, print its entropies."""
    from joma.report.pages.document import EXPLORER
    from joma.report.sentence import entropy_table
    from joma.studies.sentence import sentence

    if options.follow or len(options.paths) > 1:
        problem = "`follow` has no effect with --sentence" if options.follow else "--sentence takes one PATH"
        raise BadInput(problem, expected="a folder with saved steps", remedy="leave out the other")
    found = sentence(options.paths[0], options.sentence, tokenizer=options.tokenizer)
    files = [found.write(folder).name, EXPLORER, *_pictures(found, folder, options)]
    record = {
        "sentence": found.text,
        "tokens": found.tokens,
        "entropies": found.verdicts().to_dict("records"),
        "failed": found.failed,
    }
    show(record, [entropy_table(found.verdicts())], as_json=options.json)
    conclude(found.summary(), folder, files, as_json=options.json)
    return int(bool(found.failed))


def _pictures(found: Result, folder: Path, options: Any) -> list[str]:
    """Write every picture if that is asked for, and return what was written."""
    if not options.png:
        return []
    from joma.charts import Chart, Heatmap
    from joma.report.drawing.figures import write_figures
    from joma.report.drawing.heatmaps import write_heatmap

    pictures = found.pictures()
    write_figures([picture for picture in pictures if isinstance(picture, Chart)], folder / "figures")
    for picture in pictures:
        if isinstance(picture, Heatmap):
            write_heatmap(picture, folder / "figures")
    return ["figures/"]


def _follow(options: Any) -> int:
    """Serve the page until Ctrl-C."""
    from joma.report.pages.document import EXPLORER
    from joma.report.pages.serving import newest, server
    from joma.studies.show import show as read

    for name in ("out", "png", "json"):
        if getattr(options, name):
            raise BadInput(f"`{name}` has no effect with --follow", expected="one of them", remedy="leave one out")
    try:
        pages = {
            "/": lambda: read(*options.paths).page(following=True),
            f"/{EXPLORER}": lambda: read(*options.paths).explorer().page(),
        }
        served = server(pages, lambda: newest(options.paths), options.port or 0)
    except (OSError, OverflowError) as error:
        problem = f"--port {options.port} cannot be used ({cause_of(error)})"
        raise BadInput(problem, expected="a free port up to 65535", remedy="leave it out for any free one") from error
    print(
        f"The page, updated while training goes on: http://127.0.0.1:{served.server_port}/ (Ctrl-C ends it)", flush=True
    )
    try:
        served.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        served.server_close()
    return 0
