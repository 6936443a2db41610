"""``joma scan``: measure attention and weights over a series of saved steps, which is looked at first."""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse
from jsonargparse.typing import PositiveInt

from joma.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from joma.measure.scan.scanned import Scan
    from joma.measure.scan.steps import Plan
    from joma.measure.scan.verification import Verification
    from joma.saved.series import Series

DEFAULT_LENGTH = 512
NUM_SEQUENCES = 8

_USUAL = {"measure": "attention,stable_rank", "engine": "processes", "device": "cpu"}
_NO_USE_TO_VERIFY = (*_USUAL, "text", "tokenizer", "length", "sequences", "out", "workers", "with_suspects")


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
    from joma.metrics import choose_metrics

    started = time.monotonic()
    measures = choose_metrics(options.measure, "scan")
    folder = Path(options.out) if options.out else Path("joma-scan") / (Path(options.source).resolve().name or "scan")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file", expected="a folder", remedy="give another name")
    _check_together(options)
    series = _series(options, folder)
    verification = _verified(series)
    if options.verify:
        return _tell_suspects(verification, as_json=options.json)
    plan, text = _plan(options, series, measures)
    _warn(verification, options)
    scan, interrupted = _scanned(options, plan, text, verification, folder, started)
    record = _write(scan, folder)
    _show(scan, record, folder, as_json=options.json)
    if interrupted:
        raise KeyboardInterrupt
    if not scan.measured:
        raise RunFailed(
            f"none of the {len(scan.steps)} steps could be measured",
            kept=f"the reasons are in {folder / 'scan.json'}",
            remedy=scan.failed[0].remedy,
        )
    return 0


def _check_together(options: Any) -> None:
    """Refuse options that would be ignored."""
    if options.verify:
        given = [name for name in _NO_USE_TO_VERIFY if getattr(options, name) not in (None, False, _USUAL.get(name))]
        if given:
            name = given[0].replace("_", "-")
            raise BadInput(f"--{name} has no effect with --verify", expected="one of them", remedy="leave one out")
    if options.keep and Path(options.source).expanduser().exists():
        raise BadInput("--keep has no effect on a folder", expected="a repository on a hub", remedy="leave it out")


def _series(options: Any, folder: Path) -> Series:
    from joma.saved.series import open_series

    open_with = partial(
        open_series,
        options.source,
        revisions=options.revisions,
        weights=options.weights,
        cache=folder / "downloads" if options.keep else None,
    )
    series = open_with()
    return series if options.steps is None else open_with(steps=chosen_steps(str(options.steps), series.steps))


def chosen_steps(text: str, there: tuple[int, ...]) -> list[int]:
    """The steps that a selection such as ``0,512,1000:143000:1000`` names: numbers, and ranges with both ends.

    A range takes the steps that are there, and warns where one with a stride names more. Numbers are taken as they are.

    Raises:
        BadInput: no such syntax, or nothing in a range.
    """
    chosen: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d{1,18})(?::(\d{1,18})(?::(\d{1,18}))?)?", part)
        if match is None or match[3] == "0":
            raise BadInput(
                f"--steps holds {part!r}",
                expected="numbers and ranges first:last or first:last:stride, with commas between",
                remedy="write --steps 0,512,1000:143000:1000",
            )
        first, last, stride = (None if value is None else int(value) for value in match.groups())
        assert first is not None
        if last is None:
            chosen.add(first)
        else:
            named = range(first, last + 1, stride or 1)
            found = [step for step in there if step in named]
            if not found:
                raise BadInput(
                    f"--steps {part} names no step",
                    expected=f"a range that meets one of its steps, {min(there)} to {max(there)}, the lower end first",
                    remedy=f"ask for {min(there)}:{max(there)} for all of them",
                )
            if stride and len(found) < len(named):
                warnings.warn(
                    f"--steps {part} names {len(named):,} steps, of which {len(found):,} are there", stacklevel=2
                )
            chosen.update(found)
    return sorted(chosen)


def _verified(series: Series) -> Verification:
    from joma.cli.progress import shown
    from joma.measure.scan.verification import verify

    with shown() as progress:
        return verify(series, progress=progress)


def _tell_suspects(verification: Verification, *, as_json: bool) -> int:
    from dataclasses import asdict

    from joma.report.scan import bytes_text, suspect_table

    cost = bytes_text(verification.bytes_read, verification.bytes_stored)
    if as_json:
        print(json.dumps(asdict(verification), indent=1, ensure_ascii=False))
    elif verification.rows:
        _console().print(suspect_table(verification))
        print(cost)
    else:
        num = len(verification.steps)
        print(f"{verification.source}: nothing suspicious in {num} step{'s' if num > 1 else ''}; {cost}")
    return int(bool(verification.rows))


def _warn(verification: Verification, options: Any) -> None:
    """Say what is suspicious before anything is measured."""
    if verification.rows and not options.json:
        num = len({row.step for row in verification.rows})
        left_out = 0 if options.with_suspects else len(verification.condemned)
        without = f"; curves and verdicts go without {left_out}" if left_out else ""
        said = f"{num} of {len(verification.steps)} steps are suspect, see the table{without}"
        print(f"joma: {said}; going on", file=sys.stderr)


def _plan(options: Any, series: Series, measures: tuple[str, ...]) -> tuple[Plan, str]:
    import os

    from joma.measure.models.families import kind_of
    from joma.measure.scan.steps import Plan
    from joma.metrics import sources_of

    # A model alone may use the whole machine. The steps of a series have one thread each, which is faster for all of
    # them, and so has a single one that is chosen: its numbers are to stand beside theirs.
    alone = not series.numbered or Path(series.source).name in series.names.values()
    num_threads = (os.cpu_count() or 1) if alone else 1
    if not sources_of(measures) & {"attention", "loss"}:
        for name in ("text", "tokenizer", "length", "sequences"):
            if getattr(options, name) is not None:
                raise BadInput(
                    f"--{name} has no effect on weights", expected="a measure that reads text", remedy="leave it out"
                )
        return Plan(series, measures, None, num_threads, options.device), ""
    config, longest = series.last(partial(_config_and_context, series))
    if kind_of(config) == "joma":
        return _plan_of_run(options, series, measures, config, num_threads)
    from joma.train.text.probe import probe_sequences, tokenizer_of
    from joma.train.text.reading import read_text

    length = _length(options, longest)
    text = read_text(options.text)
    num_sequences = options.sequences or NUM_SEQUENCES
    probe = probe_sequences(text, tokenizer_of(series, options.tokenizer), num_sequences, length)
    read = f"{num_sequences} sequences of {length} tokens of {text.description}"
    return Plan(series, measures, probe, num_threads, options.device), read


def _plan_of_run(
    options: Any, series: Series, measures: tuple[str, ...], config: Mapping[str, Any], num_threads: int
) -> tuple[Plan, str]:
    """A network of our own reads what it was measured on while it trained, unless something else is asked for."""
    from joma.measure.scan.steps import Plan
    from joma.train.saved_runs import run_probe, saved_decoder

    if options.tokenizer is not None:
        raise BadInput(
            "--tokenizer has no effect on a run of joma", expected="the run's own tokens", remedy="leave it out"
        )
    asked = {"text": options.text, "num_sequences": options.sequences, "length": options.length}
    probe, read = run_probe(config, Path(series.source), **asked)
    return Plan(series, measures, probe, num_threads, options.device, saved_decoder), read


def _config_and_context(series: Series, step: int) -> tuple[Mapping[str, Any], int | None]:
    """A step's configuration, and how many tokens its model can read at once where that says so."""
    from joma.measure.models.building import longest_context
    from joma.measure.models.families import kind_of

    config = series.checkpoint(step).config
    return config, None if kind_of(config) == "joma" else longest_context(config)


def _length(options: Any, longest: int | None) -> int:
    if options.length is None:
        return min(DEFAULT_LENGTH, longest or DEFAULT_LENGTH)
    if longest is not None and options.length > longest:
        raise BadInput(
            f"--length {options.length} is longer than the model's context",
            expected=f"at most {longest} tokens",
            remedy=f"give --length {longest}",
        )
    return options.length


def _scanned(
    options: Any, plan: Plan, text: str, verification: Verification, folder: Path, started: float
) -> tuple[Scan, bool]:
    """Measure what is not measured yet; an interruption leaves the finished steps there."""
    from joma.cli.progress import shown
    from joma.measure.scan.engines import measured
    from joma.measure.scan.results import ScanStore
    from joma.measure.scan.scanned import Scan
    from joma.measure.scan.steps import is_current

    store = ScanStore(folder, plan.settings)
    left = [step for step in plan.series.steps if not is_current(plan.series, store.results.get(step))]
    interrupted = False
    try:
        with shown() as progress:
            for result in measured(plan, left, engine=options.engine, num_workers=options.workers, progress=progress):
                store.append(result)
    except KeyboardInterrupt:
        interrupted = True
    results = tuple(store.results[step] for step in plan.series.steps if step in store.results)
    seconds = time.monotonic() - started
    series = plan.series
    about = (series.source, plan.settings, text, series.steps, series.numbered)
    return Scan(*about, results, verification, seconds, options.with_suspects), interrupted


def _write(scan: Scan, folder: Path) -> dict[str, Any]:
    from datetime import UTC, datetime

    from joma.files import write_json
    from joma.provenance import versions
    from joma.report.pages.scan import write_scan
    from joma.report.scan import scan_record
    from joma.tidy import write_frame

    record = scan_record(scan)
    write_json(folder / "scan.json", record)
    write_frame(scan.frame(), folder / "metrics.parquet")
    write_scan(scan, folder, created=datetime.now(UTC), versions=versions())
    return record


def _show(scan: Scan, record: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    from joma.report.scan import scan_table

    if as_json:
        print(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False))
        return
    console = _console()
    console.print(scan_table(scan))
    console.print(f"the page: {(folder / 'report.html').absolute().as_uri()}", soft_wrap=True)


def _console() -> Any:
    from rich.console import Console

    # Off a terminal there is no width to fit into, and a narrow table is hard to read.
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
