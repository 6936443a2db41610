"""How early, and how often wrongly, the alarms of `joma.watch` fire: a grid of small GPT-2 runs, sound and broken.

Each run trains on bytes of WikiText-2 with AdamW at one learning rate, with or without warm-up, and is watched; its
held-out loss is written at every probe. Finished runs are kept, so that a grid that was stopped goes on.

A run is broken if its held-out loss ends above that of every sound run with the same warm-up by more than a tenth of
their fall; it departs at the first step from which on it is. Its loss stops at the first step from which on it is
within a twentieth of its own fall above its lowest level. The lead of an alarm is the number of steps from it to these.

    python benchmarks/alarms.py TEXTS OUT [--json] [--num-steps 300] [--num-seeds 6] [--every 5]
"""

import argparse
import csv
import lzma
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import joma
from joma.journal import read_journal
from joma.measure.curves.alarms import Alarms
from joma.measure.curves.remarks import DIVERGED
from joma.measure.curves.signs import SIGNS, lasting_from
from table import machine, print_json, show

SOUND = 1e-3
FACTORS = (1, 10, 100)
WARM_UPS = (0, 100)
LENGTH, BATCH = 64, 8
SPARSER = 5  # alarms are also raised from every fifth probe


def train(out: Path, text: torch.Tensor, held_out: torch.Tensor, factor: int, warm_up: int, seed: int, options) -> None:
    """Train and watch one run, and write its held-out loss at every probe."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=256, n_positions=LENGTH, n_embd=64, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=factor * SOUND)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(warm_up, 1)))
    probe_batch, losses = {"input_ids": held_out[:4]}, []

    def measure_loss(step: int) -> None:
        with torch.no_grad():
            losses.append((step, model.eval()(input_ids=held_out, labels=held_out).loss.item()))
        model.train()

    measure_loss(0)
    with joma.watch(model, probe_batch, every=options.every, measures="attention", out=out) as probe:
        for step in range(1, options.num_steps + 1):
            batch = windows(text, BATCH)
            model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            probe.step()
            if step % options.every == 0:
                measure_loss(step)
    with (out / "losses.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "val_loss"), *losses])


def windows(text: torch.Tensor, num: int) -> torch.Tensor:
    return torch.stack([text[at : at + LENGTH] for at in torch.randint(len(text) - LENGTH, (num,)).tolist()])


def bytes_of(path: Path, most: int) -> torch.Tensor:
    with lzma.open(path) as file:
        return torch.tensor(list(file.read(most)))


@dataclass(frozen=True)
class Run:
    """One run of the grid: its loss at each probe, and the step of each rule's first alarm."""

    factor: int
    warm_up: int
    steps: np.ndarray
    loss: np.ndarray
    alarms: dict[str, int]
    sparse_alarms: dict[str, int]

    @property
    def final(self) -> float:
        return float(np.median(self.loss[-5:]))

    @property
    def stops(self) -> int:
        """The first step from which on the loss is at its lowest level, up to a twentieth of its fall."""
        idx = lasting_from(self.loss < self.loss.min() + 0.05 * (self.loss[0] - self.loss.min()))
        return int(self.steps[-1 if idx is None else idx])

    def departs(self, sound: list["Run"]) -> int | None:
        """The first step from which on the loss is above that of all sound runs; ``None`` if it is not at the end."""
        others = np.stack([run.loss for run in sound if run.warm_up == self.warm_up])
        margin = DIVERGED * float(np.mean(others[:, 0] - others[:, -1]))
        idx = lasting_from(self.loss > others.max(axis=0) + margin)
        return None if idx is None else int(self.steps[idx])


def read_run(folder: Path, factor: int, warm_up: int) -> Run:
    probes = read_journal(folder / "metrics.jsonl").probes
    losses = pandas.read_csv(folder / "losses.csv")
    steps, loss = losses["step"].to_numpy(), losses["val_loss"].to_numpy()
    return Run(factor, warm_up, steps, loss, first_alarms(probes), first_alarms(probes[::SPARSER]))


def first_alarms(probes: list) -> dict[str, int]:
    """Return the step of the first alarm of each rule, as ``joma.watch(alarm=True)`` gives it at these probes."""
    alarms, found = Alarms(), {}
    for step, rows in probes:
        for alarm in alarms.after(step, rows):
            found.setdefault(alarm.rule, step)
    return found


def figures(runs: list[Run]) -> list[dict]:
    """Return a row for each learning rate and warm-up: how many runs broke, which had alarms, and when."""
    sound = [run for run in runs if run.factor == 1]
    rows = []
    for factor, warm_up in product(FACTORS, WARM_UPS):
        group = [run for run in runs if (run.factor, run.warm_up) == (factor, warm_up)]
        departs = [run.departs(sound) for run in group]
        row = {"factor": factor, "warm_up": warm_up, "runs": len(group), "final": [run.final for run in group]}
        row |= {"broken": sum(step is not None for step in departs), "departs": departs}
        row |= {"stops": [run.stops for run in group]}
        for name in ("alarms", "sparse_alarms"):
            row[name] = [getattr(run, name) for run in group]
            first = [min(found.values(), default=None) for found in row[name]]
            row[f"first_{name}"] = first
            both = list(zip(first, departs, row["stops"], strict=True))
            row[f"lead_{name}"] = [end - at for at, end, _ in both if at is not None and end is not None]
            row[f"lead_to_stop_{name}"] = [stop - at for at, end, stop in both if at is not None and end is not None]
        rows.append(row)
    return rows


def span(values: list, unit: str = "") -> str:
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    low, middle, high = min(values), float(np.median(values)), max(values)
    return f"{middle:.4g} ({low:.4g} to {high:.4g}){unit}"


def show_figures(found: list[dict], every: int, place: dict) -> None:
    for name, between in (("alarms", every), ("sparse_alarms", SPARSER * every)):
        rows = [
            (
                f"{row['factor']} ×, {row['warm_up'] or 'no'} warm-up",
                f"{row['broken']} of {row['runs']}",
                span([round(value, 2) for value in row["final"]]),
                str(sum(bool(alarms) for alarms in row[name])),
                " / ".join(str(sum(rule in alarms for alarms in row[name])) for rule in SIGNS),
                span(row[f"first_{name}"]),
                span(row["departs"]),
                span(row[f"lead_{name}"]),
                span(row[f"lead_to_stop_{name}"]),
            )
            for row in found
        ]
        columns = ("learning rate", "broken", "last loss", "runs with alarm", " / ".join(SIGNS), "first alarm")
        columns += ("loss departs", "lead", "lead to stop of loss")
        broken = sum(row["broken"] for row in found)
        num_found = sum(len(row[f"lead_{name}"]) for row in found)
        others = [alarms for row in found for alarms, at in zip(row[name], row["departs"], strict=True) if at is None]
        wrong = sum(bool(alarms) for alarms in others)
        rows += [
            None,
            ("all", f"{broken} broken: {num_found} with alarm", f"{len(others)} others: {wrong} with alarm"),
        ]
        show(f"Alarms with a probe every {between} steps: median (range)", columns, rows, place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path, help="a folder with train.txt.xz and valid.txt.xz")
    parser.add_argument("out", type=Path, help="a folder for the runs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--num-steps", type=int, default=300)
    parser.add_argument("--num-seeds", type=int, default=6)
    parser.add_argument("--every", type=int, default=5)
    options = parser.parse_args()
    place = machine()
    torch.set_num_threads(1)
    text = bytes_of(options.texts / "train.txt.xz", 3_000_000)
    held_out = bytes_of(options.texts / "valid.txt.xz", 16 * LENGTH).view(16, LENGTH)
    runs = []
    for seed, factor, warm_up in product(range(options.num_seeds), FACTORS, WARM_UPS):
        out = options.out / f"x{factor}_warm{warm_up}_seed{seed}"
        if not (out / "losses.csv").exists():
            for left in out.glob("*"):
                left.unlink()
            train(out, text, held_out, factor, warm_up, seed, options)
        runs.append(read_run(out, factor, warm_up))
    found = figures(runs)
    if options.json:
        print_json({"groups": found, "machine": place})
    else:
        show_figures(found, options.every, place)


if __name__ == "__main__":
    main()
