"""What `joma.watch` adds to training at one probe every 100 steps, per step, on a GPT-2 of four layers and width 256.

Steps and probes come from one and the same run. The peer, in the same run on the same batch, is what people do without
an instrument: one pass with eager's `output_attentions`, and entropies (nothing else) from the whole matrices.
The statistics that are measured on request are added one after another. All times are processor times, which other work
on the machine changes little. Aim: under 1 % more.

    python benchmarks/watching.py [--json] [--num-steps 120] [--length 256] [--batch-size 8] [--probe-size 4]
        [--num-threads 1]
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack

import torch

import joma
from table import machine, print_json, show

MEASURED_EVERY = 10  # probes are made more frequent than the 100 steps reported, so that there are enough to time
REPORTED_EVERY = 100
USUAL = ("attention", "stable_rank")
MEASURES = {
    "usual": USUAL,
    "with activations": (*USUAL, "activations"),
    "with activations and gradients": (*USUAL, "activations", "gradients"),
}
"""What is measured, from the usual statistics to all of them."""


def model_of(length: int, **settings: str) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=8192, n_positions=length, n_embd=256, n_layer=4, n_head=8, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    return GPT2LMHeadModel._from_config(config, **settings).train()


def figures(num_steps: int, length: int, batch_size: int, probe_size: int) -> dict[str, float]:
    """Median milliseconds of a training step, of what watches add to it, and of eager's way on the same batch."""
    model, eager = model_of(length), model_of(length, attn_implementation="eager").eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    texts = torch.randint(8192, (batch_size + probe_size, length))
    batch, held_out = texts[:batch_size], texts[batch_size:]
    times: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        watches = {}
        for name, measures in MEASURES.items():
            given = {"input_ids": held_out} | ({"labels": held_out} if "gradients" in measures else {})
            watches[name] = stack.enter_context(joma.watch(model, given, every=MEASURED_EVERY, measures=measures))
        for number in range(1, num_steps + 1):
            times["step"].append(_timed(lambda: _train(model, optimizer, batch)))
            due = number % MEASURED_EVERY == 0
            for name, watch in watches.items():
                times[name if due else "between"].append(_timed(watch.step))
            if due:
                times["eager"].append(_timed(lambda: measure_as_eager(eager, held_out)))
    found = {name: 1000 * statistics.median(values[1:]) for name, values in times.items()}  # the first ones warm up
    between = (REPORTED_EVERY - 1) * found["between"]
    added = {f"overhead {name}": (found[name] + between) / (REPORTED_EVERY * found["step"]) for name in MEASURES}
    return found | added


def _train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> None:
    model(input_ids=batch, labels=batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@torch.no_grad()
def measure_as_eager(model: torch.nn.Module, held_out: torch.Tensor) -> None:
    for weights in model(input_ids=held_out, output_attentions=True).attentions:
        torch.special.entr(weights).sum(-1).mean((0, 2)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--num-steps", type=int, default=120)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--probe-size", type=int, default=4)
    parser.add_argument("--num-threads", type=int, default=1)
    options = parser.parse_args()
    place = machine()
    torch.set_num_threads(options.num_threads)
    found = figures(options.num_steps, options.length, options.batch_size, options.probe_size)
    if options.json:
        print_json({**found, **vars(options), "machine": place})
        return
    rows = [
        (f"step, {options.batch_size} × {options.length} tokens", f"{found['step']:.1f} ms"),
        ("a step between probes adds", f"{found['between']:.3f} ms"),
    ]
    for name in MEASURES:
        rows += [
            None,
            (f"probe, {options.probe_size} × {options.length} tokens, {name}", f"{found[name]:.1f} ms"),
            (f"one probe every {REPORTED_EVERY} steps adds", f"{found[f'overhead {name}']:.2%} (aim: under 1 %)"),
        ]
    rows += [None, ("eager's attention weights and their entropies alone", f"{found['eager']:.1f} ms")]
    show("Watching a GPT-2, 4 layers of 256", ("", "value"), rows, place)


if __name__ == "__main__":
    main()
