"""Series of saved steps, verified and measured: what ``joma scan`` and ``joma.scan`` do."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

import pandas

from joma.domains import check_whole, choose
from joma.errors import BadInput, InvalidArgument
from joma.files import expanded, write_json
from joma.measure.models.building import longest_context
from joma.measure.models.families import kind_of
from joma.measure.scan import scanned, verification
from joma.measure.scan.engines import measured
from joma.measure.scan.results import ScanStore, probes_of
from joma.measure.scan.steps import Plan, is_current
from joma.metrics import DEFAULT, METRICS, choose_metrics, sources_of
from joma.progress import Progress
from joma.provenance import versions
from joma.report.pages.scan import write_scan
from joma.report.progress import shown
from joma.report.scan import course_charts, heatmaps, scan_record, scan_summary, verification_map, verification_summary
from joma.saved.series import Series, WeightKind, open_series
from joma.studies.result import Interrupted, Result, verdict_frame
from joma.tidy import write_frame
from joma.train.saved_runs import run_probe, saved_decoder
from joma.train.text.probe import probe_sequences, tokenizer_of
from joma.train.text.reading import read_text
from joma.workers import Engine

if TYPE_CHECKING:
    from joma.charts import Chart, Heatmap

DEFAULT_LENGTH = 512
NUM_SEQUENCES = 8


class SeriesSettings(TypedDict, total=False):
    """Which steps of a series are read, and from where.

    Args:
        steps: numbers, or text such as ``0,512,1000:143000:1000`` (first:last:stride); all where left out.
        revisions: on a hub, which revisions: ``stage1-*``.
        weights: ``safetensors``, ``bin`` or ``gguf``; the first of these that a step has where left out.
        keep: a folder that keeps what is fetched from a hub; nothing reaches the disk where left out.
    """

    steps: str | Sequence[int] | None
    revisions: str | Sequence[str] | None
    weights: WeightKind | None
    keep: str | Path | None


class ScanSettings(SeriesSettings, total=False):
    """How a series is read and measured.

    Args:
        measures: metrics by name or source (docs/metrics.md); attention and stable rank where left out.
        text: that models read: a file, a folder, ``wikitext2``, ``wikitext103``; what ships with Python where left out.
        tokenizer: used instead of the one saved with the weights.
        length: tokens of a sequence; 512, or the model's context, where left out.
        sequences: how many the model reads; 8 where left out.
        engine: ``processes`` of this machine, or ``ray``.
        workers: steps at a time; as many as there are processors where left out.
        device: ``cpu``, or ``auto`` for an accelerator where there is one.
        with_suspects: whether curves and verdicts go through steps that are suspect.
    """

    measures: str | Sequence[str]
    text: str | None
    tokenizer: str | None
    length: int | None
    sequences: int | None
    engine: Engine
    workers: int | None
    device: Literal["cpu", "auto"]
    with_suspects: bool


class Verification(verification.Verification, Result):
    """Whether the steps of a series are what they say: ``frame()`` has a row for each thing that is suspect."""

    def frame(self) -> pandas.DataFrame:
        """One row for each thing that is suspect: step, kind, evidence, severity, remedy."""
        columns = ["step", "kind", "evidence", "severity", "remedy"]
        return pandas.DataFrame([asdict(row) for row in self.rows], columns=pandas.Index(columns))

    def verdicts(self) -> pandas.DataFrame:
        """One row for each step: ``sound``, ``warning`` or ``error``, and what is wrong with it."""
        found = {step: [row for row in self.rows if row.step == step] for step in self.steps}
        worst = {
            step: "error" if step in self.condemned else "warning" if rows else "sound" for step, rows in found.items()
        }
        kinds = {step: ", ".join(dict.fromkeys(row.kind for row in rows)) for step, rows in found.items()}
        return pandas.DataFrame({"step": list(worst), "verdict": list(worst.values()), "kinds": list(kinds.values())})

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Return one heatmap: which steps are suspect of what, 1 for a warning and 2 for an error."""
        return [verification_map(self)]

    def summary(self) -> str:
        """How many steps are suspect, and how much was read."""
        return verification_summary(self)


class Scan(scanned.Scan, Result):
    """A measured series: ``frame()`` has its numbers (docs/metrics.md), ``verdicts()`` what became of each layer."""

    def verdicts(self) -> pandas.DataFrame:
        """One row for each layer and metric: where it is lowest, and whether it came back."""
        return verdict_frame(probes_of(self.judged))

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Courses over the steps, heatmaps of steps by layers and of layers by heads."""
        return [*course_charts(self), *chain(*heatmaps(self))]

    def summary(self) -> str:
        """How many steps were measured, and what the curves do."""
        return scan_summary(self)

    def write(self, folder: str | Path) -> dict[str, Any]:
        """Write ``report.html``, the explorer, ``metrics.parquet``, ``scan.json`` and every picture into a folder.

        Returns:
            what ``scan.json`` holds.
        """
        from joma.studies.explorer import run_of, write_explorer

        folder, record, table = Path(folder), scan_record(self), self.frame()
        write_json(folder / "scan.json", record)
        write_frame(table, folder / "metrics.parquet")
        write_explorer(folder, run_of(table, self.source))
        write_scan(self, folder, created=datetime.now(UTC), versions=versions())
        return record


def verify(
    source: str | Path | Series, *, progress: Progress | None = None, **settings: Unpack[SeriesSettings]
) -> Verification:
    """Look for steps of a series that are damaged, out of place, copied, or no initialisation where one should be.

    >>> import joma
    >>> from transformers import GPT2Config, GPT2Model
    >>> model = GPT2Model(GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4))
    >>> for step in (0, 100):
    ...     model.save_pretrained(f"checkpoints/step{step}")
    >>> found = joma.verify("checkpoints")
    >>> found.frame()[["step", "kind"]].values.tolist()  # the same weights twice
    [[0, 'identical']]
    >>> axes = found.plot()

    Args:
        source: a folder with saved steps, a weight file, ``owner/name`` on the hub, or an open series.
        progress: called as it goes on; a progress bar where ``None`` and it takes long.
        **settings: of ``SeriesSettings``: steps, revisions, weights, keep.

    Raises:
        BadInput: no model there, or steps that it has not.
        RunFailed: a hub does not answer.
    """
    _require_known(settings, SeriesSettings, "verify")
    series = _opened(source, settings)
    with nullcontext(progress) if progress else shown() as report:
        return Verification(**vars(verification.verify(series, progress=report)))


def scan(
    source: str | Path | Series,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Unpack[ScanSettings],
) -> Scan:
    """Measure attention and weights over a series of saved steps, after looking for suspects.

    >>> import joma
    >>> from transformers import GPT2Config, GPT2Model
    >>> model = GPT2Model(GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4))
    >>> for step in (0, 100):
    ...     model = GPT2Model(model.config)
    ...     model.save_pretrained(f"checkpoints/step{step}")
    >>> found = joma.scan("checkpoints", measures="stable_rank")
    >>> sorted(found.frame()["projection"].unique())
    ['key', 'mlp_lower', 'mlp_upper', 'output', 'query', 'value']
    >>> axes = found.plot()

    Args:
        source: a folder with saved steps, a weight file, ``owner/name`` on the hub, or an open series.
        out: a folder that keeps each step's numbers as they come, and goes on from there; in the end it holds
            ``report.html``, ``metrics.parquet`` and the pictures. Nothing is written where ``None``.
        progress: called as it goes on; a progress bar where ``None`` and it takes long.
        **settings: of ``ScanSettings``: steps, measures, text, length, device, ….

    Raises:
        BadInput: no model there, steps that it has not, a text that is too short, a setting that has no effect.
        RunFailed: a hub does not answer.
        Interrupted: Ctrl-C; its ``result`` is the scan so far.
    """
    started = time.monotonic()
    _require_known(settings, ScanSettings, "scan")
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise InvalidArgument("scan", "out", required="a folder", received=f"the file {out}", remedy="choose another")
    series = _opened(source, settings)
    with nullcontext(progress) if progress else shown() as report:
        looked_at = verification.verify(series, progress=report)
        plan, text = _plan(series, settings)
        _warn_of_suspects(looked_at, with_suspects=settings.get("with_suspects", False))
        store = None if out is None else ScanStore(Path(out), plan.settings)
        results = {} if store is None else store.results
        left = [step for step in series.steps if not is_current(series, results.get(step))]
        _warn_of_replaced([step for step in left if step in results and results[step].ok])
        interrupted = False
        spread = {"engine": settings.get("engine") or "processes", "num_workers": settings.get("workers")}
        try:
            for result in measured(plan, left, **spread, progress=report):
                results[result.step] = result
                if store is not None:
                    store.append(result)
        except KeyboardInterrupt:
            interrupted = True
    about = (series.source, plan.settings, text, series.steps, series.numbered)
    done = tuple(results[step] for step in series.steps if step in results)
    found = Scan(*about, done, looked_at, time.monotonic() - started, settings.get("with_suspects", False))
    if out is not None:
        found.write(out)
    if done and not found.measured:
        message = f"none of the {len(done)} steps could be measured: {done[0].reason}; {done[0].remedy}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    if interrupted:
        raise Interrupted(found)
    return found


def chosen_steps(steps: str | Sequence[int], there: Sequence[int]) -> list[int]:
    """The steps that a selection such as ``0,512,1000:143000:1000`` names: numbers, and ranges with both ends.

    A range takes the steps that are there, and warns where one with a stride names more. Numbers are taken as they are.

    Raises:
        BadInput: no such syntax, or nothing in a range.
    """
    if not isinstance(steps, str):
        if odd := [step for step in steps if isinstance(step, bool) or not isinstance(step, Integral)]:
            raise _no_steps(odd[0])
        return list(steps)
    chosen: set[int] = set()
    for part in steps.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d{1,18})(?::(\d{1,18})(?::(\d{1,18}))?)?", part)
        if match is None or match[3] == "0":
            raise _no_steps(part)
        first, last, stride = (None if value is None else int(value) for value in match.groups())
        assert first is not None
        if last is None:
            chosen.add(first)
        else:
            named = range(first, last + 1, stride or 1)
            found = [step for step in there if step in named]
            if not found:
                raise InvalidArgument(
                    "scan",
                    "steps",
                    received=f"{part}, which names no step",
                    required=f"a range that meets one of its steps, {min(there)} to {max(there)}, the lower end first",
                    remedy=f"ask for {min(there)}:{max(there)} for all of them",
                )
            if stride and len(found) < len(named):
                said = f"the range {part} names {len(named):,} steps, of which {len(found):,} are there"
                warnings.warn(said, stacklevel=2)
            chosen.update(found)
    return sorted(chosen)


def _require_known(settings: Mapping[str, Any], kind: type, function: str) -> None:
    """Raise ``InvalidArgument`` for a setting that does not exist, or has a value that it cannot have."""
    for name in settings:
        choose(name, kind.__annotations__, function, "settings")
    for name in ("length", "sequences", "workers"):
        if settings.get(name) is not None:
            check_whole(settings[name], function, name, low=1)
    if settings.get("engine") is not None:
        choose(settings["engine"], {name: name for name in get_args(Engine)}, function, "engine")


def _no_steps(received: object) -> InvalidArgument:
    required = "numbers and ranges first:last or first:last:stride, with commas between"
    remedy = "write 0,512,1000:143000:1000, for one"
    return InvalidArgument("scan", "steps", received=repr(received)[:80], required=required, remedy=remedy)


def _opened(source: str | Path | Series, settings: Mapping[str, Any]) -> Series:
    """The series that is meant, with the steps that are asked for."""
    given = [name for name in SeriesSettings.__annotations__ if settings.get(name) is not None]
    if isinstance(source, Series):
        if given:
            raise _ineffective(given[0], "an open series", "it in open_series")
        return source
    if not isinstance(source, str | Path):
        required = "a folder, a weight file, owner/name on the hub, or an open series"
        raise InvalidArgument("scan", "source", required=required, received=repr(source), remedy="pass a path")
    steps, keep = settings.get("steps"), settings.get("keep")
    if keep is not None and expanded(source).exists():
        raise _ineffective("keep", "a folder", "a repository on a hub")
    open_with = partial(
        open_series,
        source,
        revisions=settings.get("revisions"),
        weights=settings.get("weights"),
        cache=None if keep is None else Path(keep),
    )
    series = open_with()
    return series if steps is None else open_with(steps=chosen_steps(steps, series.steps))


def _warn_of_suspects(found: verification.Verification, *, with_suspects: bool) -> None:
    """Say what is suspicious before anything is measured."""
    if not found.rows:
        return
    num, left_out = len({row.step for row in found.rows}), 0 if with_suspects else len(found.condemned)
    without = f"; curves and verdicts go without {left_out}" if left_out else ""
    warnings.warn(f"{num} of {len(found.steps)} steps are suspect, see the table{without}; going on", stacklevel=3)


def _warn_of_replaced(steps: Sequence[int]) -> None:
    """Say which results are not used because they are of other weights."""
    if steps:
        first, more = steps[0], f" and {len(steps) - 1} more" if steps[1:] else ""
        changed = "weights or configuration were written again since they were measured"
        warnings.warn(f"step {first}{more}: {changed}; measuring again", stacklevel=3)


def _plan(series: Series, settings: Mapping[str, Any]) -> tuple[Plan, str]:
    """What to measure, and in words what models read."""
    measures = settings.get("measures")
    metrics = choose_metrics(DEFAULT if measures is None else measures, "scan")
    device = settings.get("device") or "cpu"
    # A model alone may use the whole machine. The steps of a series have one thread each, which is faster for all of
    # them, and so has a single one that is chosen: its numbers are to be compared with theirs.
    alone = not series.numbered or Path(series.source).name in series.names.values()
    num_threads = (os.cpu_count() or 1) if alone else 1
    if not sources_of(metrics) & {"attention", "loss"}:
        for name in ("text", "tokenizer", "length", "sequences"):
            if settings.get(name) is not None:
                raise _ineffective(name, "weights", "a metric that reads text")
        return Plan(series, metrics, None, num_threads, device), ""
    config, longest = series.last(partial(_config_and_context, series))
    asked = {"text": settings.get("text"), "num_sequences": settings.get("sequences"), "length": settings.get("length")}
    if kind_of(config) == "joma":  # a network of our own reads what it was measured on while it trained
        if settings.get("tokenizer") is not None:
            raise _ineffective("tokenizer", "a run of joma", "the run's own tokens")
        probe, read = run_probe(config, Path(series.source), **asked)
        if "law" in config:  # it predicts labels, so that it has no loss per token
            metrics = tuple(name for name in metrics if METRICS[name].source != "loss")
            if not metrics:
                raise _ineffective("measures", "the loss of a run that predicts labels", "attention or weights")
        return Plan(series, metrics, probe, num_threads, device, saved_decoder), read
    length, text = _length(asked["length"], longest), read_text(asked["text"])
    num = asked["num_sequences"] or NUM_SEQUENCES
    probe = probe_sequences(text, tokenizer_of(series, settings.get("tokenizer")), num, length)
    read = f"{num} sequences of {length} tokens from {text.origin}"
    return Plan(series, metrics, probe, num_threads, device), read


def _config_and_context(series: Series, step: int) -> tuple[Mapping[str, Any], int | None]:
    """A step's configuration, and how many tokens its model can read at once where that is known."""
    config = series.checkpoint(step).config
    return config, None if kind_of(config) == "joma" else longest_context(config)


def _ineffective(setting: str, on: str, expected: str) -> BadInput:
    return BadInput(f"`{setting}` has no effect on {on}", expected=expected, remedy="leave it out")


def _length(asked: int | None, longest: int | None) -> int:
    if asked is None:
        return min(DEFAULT_LENGTH, longest or DEFAULT_LENGTH)
    if longest is not None and asked > longest:
        raise InvalidArgument(
            "scan",
            "length",
            received=f"{asked}, longer than the model's context",
            required=f"at most {longest} tokens",
            remedy=f"choose {longest} or less",
        )
    return asked
