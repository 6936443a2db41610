"""How early, and how often wrongly, the alarms of `joma.watch` fire: a grid of small GPT-2 runs, sound and broken.

Each run trains on bytes of WikiText-2 with AdamW at one learning rate, with or without warm-up, and is watched; its
held-out loss is written at every probe. A run that is stopped goes on with its next call, run by run.

    python benchmarks/alarms.py TEXTS OUT [--json] [--num-steps 300] [--num-seeds 6] [--every 5]
"""

import argparse
import csv
import lzma
from itertools import product
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import joma

SOUND = 1e-3
FACTORS = (1, 10, 100)
WARM_UPS = (0, 100)
LENGTH, BATCH = 64, 8


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path, help="a folder with train.txt.xz and valid.txt.xz")
    parser.add_argument("out", type=Path, help="a folder for the runs")
    parser.add_argument("--num-steps", type=int, default=300)
    parser.add_argument("--num-seeds", type=int, default=6)
    parser.add_argument("--every", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = bytes_of(options.texts / "train.txt.xz", 3_000_000)
    held_out = bytes_of(options.texts / "valid.txt.xz", 16 * LENGTH).view(16, LENGTH)
    for seed, factor, warm_up in product(range(options.num_seeds), FACTORS, WARM_UPS):
        out = options.out / f"x{factor}_warm{warm_up}_seed{seed}"
        if not (out / "losses.csv").exists():
            for left in out.glob("*"):
                left.unlink()
            train(out, text, held_out, factor, warm_up, seed, options)
            print(out.name, flush=True)


if __name__ == "__main__":
    main()
