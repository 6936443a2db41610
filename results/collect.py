"""Collect the measurements of training runs into one table and a record of how they were made.

    python results/collect.py FOLDER results/NAME --command "how to train them again" [--note "what was reduced"]

FOLDER has the runs in ``runs`` (each with config.json and metrics.jsonl), finished or not, and their text in ``text``.
Written are NAME.parquet, a tidy table with the settings in which the runs differ as columns, and NAME.json: settings,
versions, device, the loss by word frequencies, and the last step and the wall-clock seconds of each run.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from joma.claims.text.networks import unigram_nats
from joma.files import write_json
from joma.records import Measurement
from joma.tidy import frame_of, write_frame
from joma.train.decoder import DecoderConfig
from joma.train.recipes import Recipe
from joma.train.run import Run, load_run
from joma.train.sweeps.outcomes import OUTCOMES, read_outcomes
from joma.train.tasks import streams_of
from joma.train.text.vocabulary import load_tokens

ALWAYS = ("learning_rate", "num_layers", "seed", "num_steps")
NOT_SETTINGS = ("name", "decoder", "checkpoint_every", "snapshot_every", "num_threads")


def settings_of(run: Run) -> dict[str, Any]:
    """Return the settings of a run by name, those of its network too."""
    found = {name: getattr(run.recipe, name) for name in (field.name for field in fields(Recipe))}
    kept = {name: value for name, value in found.items() if name not in NOT_SETTINGS}
    return kept | {field.name: getattr(run.recipe.decoder, field.name) for field in fields(DecoderConfig)}


def record_of(run: Run, last_step: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far a run came, and how long that took: what its sweep says, or else the age of its files."""
    config, journal = run.folder / "config.json", run.journal_path
    outcome = read_outcomes(run.folder.parent.parent / OUTCOMES)[0].get(run.folder.name)
    seconds = outcome.seconds if outcome is not None else None
    if seconds is None:
        seconds = max(0.0, journal.stat().st_mtime - config.stat().st_mtime)
    return {"run": run.folder.name, "last_step": last_step, "seconds": round(seconds), **settings}


def collect(folder: Path, out: Path, command: str, note: str, *, finished: bool) -> None:
    """Write the table and the record, of finished runs only if that is asked for."""
    runs = [load_run(path) for path in sorted((folder / "runs").iterdir()) if (path / "metrics.jsonl").exists()]
    runs = [run for run in runs if not finished or run.journal().last_step == run.recipe.num_steps]
    journals = [run.journal() for run in runs]  # once: a run may still train
    if not runs:
        raise SystemExit(f"{folder} holds no runs")
    settings = [settings_of(run) for run in runs]
    varied = [name for name in settings[0] if name in ALWAYS or len({str(one[name]) for one in settings}) > 1]
    rows = [
        Measurement(run.folder.name, step, *row)
        for run, journal in zip(runs, journals, strict=True)
        for step, probe in journal.probes
        for row in probe
        if row.group is None
    ]
    frame = frame_of(rows)
    for name in varied:
        values = {run.folder.name: one[name] for run, one in zip(runs, settings, strict=True)}
        frame[name] = frame["run"].map(values)
    texts = [load_tokens(path) for path in sorted((folder / "text").glob("*.safetensors"))]
    if texts:
        passes = {run.folder.name: streams_of(run.recipe, texts[0].train).num_windows for run in runs}
        frame["num_epochs"] = frame["num_steps"] / frame["run"].map(passes)
    config = json.loads((runs[0].folder / "config.json").read_text())
    write_frame(frame, out.with_suffix(".parquet"))
    of_runs = [
        record_of(run, journal.last_step, {name: one[name] for name in varied})
        for run, journal, one in zip(runs, journals, settings, strict=True)
    ]
    write_json(
        out.with_suffix(".json"),
        {
            "command": command,
            "note": note,
            "text": config["text"]["description"],
            "versions": config["versions"],
            "device": config["device"],
            "settings": {name: value for name, value in settings[0].items() if name not in varied},
            "unigram_nats": unigram_nats(texts[0], texts[0].held_out) if texts else None,
            "runs": of_runs,
        },
    )
    print(f"{out}: {len(runs)} runs, {len(frame):,} rows, {out.with_suffix('.parquet').stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--command", required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--finished", action="store_true", help="leave out runs that are not finished")
    given = parser.parse_args()
    collect(given.folder, given.out, given.command, given.note, finished=given.finished)


if __name__ == "__main__":
    main()
