"""Read measurements from whatever folder or file holds them, in one table."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas

from joma.errors import BadInput, cause_of
from joma.files import expanded
from joma.journal import read_journal, sample_journal
from joma.measure.scan.results import FILE as SCAN_FILE
from joma.measure.scan.results import read_results
from joma.metrics import METRICS
from joma.records import Measurement
from joma.tidy import CONFIGURATION, TYPES, early_and_even, frame_of, read_frame, typed
from joma.train.sweeps.outcomes import OUTCOMES, Outcome, read_outcomes

TABLE, JOURNAL, TRAINER = "metrics.parquet", "metrics.jsonl", "trainer_state.json"
MOST_ROWS, MOST_BYTES = 1_000_000, 1 << 26
_KEY = ("run", "step", "layer", "head", "projection", "metric", "group")
_NEEDED = ("step", "metric", "value")
_LOSSES = {
    "loss": "train_loss_nats",
    "train_loss": "train_loss_nats",
    "train_loss_step": "train_loss_nats",
    "eval_loss": "val_loss_nats",
    "val_loss": "val_loss_nats",
}
"""Names of losses in logs of transformers' Trainer and of Lightning, with ours."""


def read_measurements(paths: Sequence[str | Path]) -> tuple[pandas.DataFrame, tuple[str, ...]]:
    """Return the measurements in folders and files as one table (docs/metrics.md), and what was left out of it.

    Of a Parquet table with more than ``MOST_ROWS`` rows, and of a journal with more than ``MOST_BYTES``, it has only
    some probes, early ones more densely.

    Args:
        paths: folders of ``joma.watch``, ``joma scan``, ``joma reproduce`` or joma's training runs, finished or not;
            folders of transformers' Trainer or Lightning that contain one; Parquet or CSV files with our columns.

    Raises:
        BadInput: nothing was measured there, or a file cannot be read.
    """
    notes: list[str] = []
    found = _joined([(Path(path), _in_place(expanded(path), notes)) for path in paths])
    if found.empty:
        raise BadInput(
            f"{', '.join(map(str, paths))} holds no measurements",
            expected="one probe or more",
            remedy="wait for the first probe, or see docs/metrics.md for the columns of a table",
        )
    kept = [name for name in _KEY if name in found]
    return typed(found.drop_duplicates(kept, keep="last").reset_index(drop=True)), tuple(notes)


def _joined(tables: Sequence[tuple[Path, pandas.DataFrame]]) -> pandas.DataFrame:
    """Join tables; networks of one name that were measured in several places get their place as a part of the name."""
    places = [table[[name for name in _KEY if name in table]].drop_duplicates() for _, table in tables]
    if pandas.concat(places).duplicated().any():
        names = [[place if run == place.name else place / run for run in table["run"]] for place, table in tables]
        tables = [
            (place, table.assign(run=[*map(str, runs)])) for runs, (place, table) in zip(names, tables, strict=True)
        ]
    return pandas.concat([table for _, table in tables], ignore_index=True)


def _in_place(path: Path, notes: list[str]) -> pandas.DataFrame:
    if path.is_file():
        return _file(path, notes)
    if not path.is_dir():
        runs = path.parent / "runs"
        remedy = f"its command writes it at the end: until then, name {runs}/*" if runs.is_dir() else "check it"
        raise BadInput(f"{path} is neither a folder nor a file", expected="a folder with measurements", remedy=remedy)
    parts = [*_folders(path, notes)]
    logs = [*_logs(path)]
    if not parts:
        raise BadInput(
            f"{path} holds no measurements",
            expected=f"a folder with {TABLE}, {JOURNAL} or {SCAN_FILE}, or one above such folders",
            remedy="watch a training run with joma.watch(..., out=FOLDER), or measure saved steps with joma scan",
        )
    table = typed(_joined([(folder.relative_to(path), part) for folder, part in parts]))
    if logs and table["run"].nunique() == 1:  # the losses of the loop that was watched
        run = table["run"].iloc[0]
        table = typed(pandas.concat([table, _frame_of_losses(run, logs)], ignore_index=True))
    return table


def _folders(path: Path, notes: list[str], depth: int = 4) -> Iterator[tuple[Path, pandas.DataFrame]]:
    """Yield the table of a folder, or else those of the folders below it, each with its folder."""
    table, journal = path / TABLE, path / JOURNAL
    if table.exists() and not (journal.exists() and journal.stat().st_mtime > table.stat().st_mtime):
        yield path, _file(table, notes).assign(**_configuration(path))
    elif journal.exists():
        yield path, _file(journal, notes).assign(**_configuration(path))
    elif (path / SCAN_FILE).exists():
        results = read_results(path)
        yield path, frame_of(Measurement(path.name, result.step, *row) for result in results for row in result.rows)
    elif depth:
        for below in sorted(child for child in path.iterdir() if child.is_dir() and not child.is_symlink()):
            yield from _folders(below, notes, depth - 1)


def _configuration(folder: Path) -> dict[str, Any]:
    """Return the settings of one of joma's training runs that have a column, and what became of it in a sweep.

    There are none for other folders.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = config["recipe"]["decoder"] | config["recipe"]
        if per_epoch := config.get("text", {}).get("steps_per_epoch"):
            settings["num_epochs"] = settings["num_steps"] / per_epoch
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, RecursionError):
        return {}
    place = folder.resolve()
    outcome = _outcomes(place.parent.parent / OUTCOMES).get(place.name)
    kept = {name: settings[name] for name in CONFIGURATION if isinstance(settings.get(name), int | float)}
    return kept | ({} if outcome is None else {"status": outcome.status})


def _outcomes(path: Path) -> Mapping[str, Outcome]:
    return _read_once(path, path.stat().st_mtime_ns) if path.exists() else {}


@lru_cache(maxsize=4)
def _read_once(path: Path, changed: int) -> Mapping[str, Outcome]:
    """Return the outcomes in a file, which is read once for all runs of a sweep."""
    return read_outcomes(path)[0]


def _file(path: Path, notes: list[str]) -> pandas.DataFrame:
    if path.suffix == ".jsonl":
        return _journal(path, notes)
    readers = {".parquet": partial(_parquet, notes=notes), ".csv": pandas.read_csv}
    if path.suffix not in readers:
        raise BadInput(f"{path} is no table", expected="a .parquet, .csv or .jsonl file", remedy="name its folder")
    try:
        table = readers[path.suffix](path)
        if "metric" not in table and "step" in table:
            if not (losses := [*_losses(table)]):
                raise ValueError("it has no column metric, and none of losses, such as train_loss")
            return _frame_of_losses(path.stem, losses)
        if missing := [name for name in _NEEDED if name not in table]:
            raise ValueError(f"it has no column {', '.join(missing)}")
        if len(table) and not table["metric"].isin(list(METRICS)).any():
            raise ValueError(f"none of its metrics is known, such as {table['metric'].iloc[0]}")
        return typed(_completed(table, path))
    except (ValueError, TypeError, OSError, KeyError, OverflowError) as error:
        raise BadInput(
            f"{path} cannot be read ({cause_of(error)})",
            expected=f"a table with the columns {', '.join(list(TYPES)[:7])}",
            remedy="write it with result.frame().to_parquet(...), or see docs/metrics.md",
        ) from error


def _journal(path: Path, notes: list[str]) -> pandas.DataFrame:
    size = path.stat().st_size
    if size > MOST_BYTES:
        journal, num = sample_journal(path, lambda num: early_and_even(num, num * MOST_BYTES // size))
        notes.append(_left_out(path, num - len(journal.probes)))
    else:
        journal = read_journal(path)
    if journal.damage:
        warnings.warn(f"{journal.damage}; later lines are left out", RuntimeWarning, stacklevel=2)
    return frame_of(Measurement(path.parent.name, step, *row) for step, rows in journal.probes for row in rows)


def _parquet(path: Path, notes: list[str]) -> pandas.DataFrame:
    table, num = read_frame(path, MOST_ROWS)
    if num:
        notes.append(_left_out(path, num))
    return table


def _left_out(path: Path, num: int) -> str:
    return f"{num:,} probes of {path} are left out, for it is long: what happened between the others cannot be seen"


def _completed(table: pandas.DataFrame, path: Path) -> pandas.DataFrame:
    """Add the columns that a table may leave out, and drop rows that explain why they hold no measurement."""
    name = path.parent.name if path.name == TABLE else path.stem
    defaults: dict[str, Any] = {"run": name, "layer": None, "head": None, "projection": None}
    table = table.assign(**{column: value for column, value in defaults.items() if column not in table})
    table["run"] = table["run"].astype(TYPES["run"]).fillna(name)
    has_reason = table["reason"].notna() if "reason" in table else False
    return table[table["metric"].notna() & ~(table["value"].isna() & has_reason)]


def _logs(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield step, metric and value of the losses that transformers' Trainer or Lightning logged."""
    states = sorted(path.glob(f"checkpoint-*/{TRAINER}"), key=lambda state: state.stat().st_mtime)
    states = [path / TRAINER] if (path / TRAINER).exists() else states[-1:]
    for state in states:
        try:
            entries = json.loads(state.read_text(encoding="utf-8"))["log_history"]  # with NaN, as Trainer writes it
            yield from [
                (int(entry["step"]), ours, float(entry[theirs]))
                for entry in entries
                for theirs, ours in _LOSSES.items()
                if isinstance(entry.get(theirs), int | float)
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            warnings.warn(f"{state} cannot be read ({cause_of(error)}); its losses are left out", stacklevel=2)
    for log in sorted(path.rglob("metrics.csv"))[-1:]:  # of Lightning's CSVLogger
        try:
            yield from list(_losses(pandas.read_csv(log)))
        except (ValueError, TypeError, OSError, OverflowError) as error:
            warnings.warn(f"{log} cannot be read ({cause_of(error)}); its losses are left out", stacklevel=2)


def _frame_of_losses(run: str, losses: Iterable[tuple[int, str, float]]) -> pandas.DataFrame:
    return frame_of(Measurement(run, step, None, None, None, metric, value) for step, metric, value in losses)


def _losses(table: pandas.DataFrame) -> Iterator[tuple[int, str, float]]:
    """Yield step, metric and value of the losses in a table with a column for each."""
    for theirs, ours in _LOSSES.items():
        if theirs in table and "step" in table:
            rows = table[["step", theirs]].dropna()
            yield from ((int(step), ours, float(value)) for step, value in rows.itertuples(index=False))
