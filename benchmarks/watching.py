"""What `joma.watch` adds to training at one probe every 100 steps, per step, on a GPT-2 of four layers and width 256.

Steps and probes come from one and the same run. The peer, in the same run on the same batch, is what people do without
an instrument: one pass with eager's `output_attentions`, and entropies (nothing else) from the whole matrices.
Aim: under 1 % more.

    python benchmarks/watching.py [--json] [--num-steps 120] [--length 256] [--batch-size 8] [--probe-size 4]
        [--num-threads 1]
"""

import argparse
import statistics
import time

import torch

import joma
from table import machine, print_json, show

MEASURED_EVERY = 10  # probes are made more frequent than the 100 steps reported, so that there are enough to time
REPORTED_EVERY = 100


def model_of(length: int, **settings: str) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=8192, n_positions=length, n_embd=256, n_layer=4, n_head=8, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    return GPT2LMHeadModel._from_config(config, **settings).train()


def figures(num_steps: int, length: int, batch_size: int, probe_size: int) -> dict[str, float]:
    """Median milliseconds of a training step, of what a probe adds to it, and of eager's way on the same batch."""
    model, eager = model_of(length), model_of(length, attn_implementation="eager").eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    texts = torch.randint(8192, (batch_size + probe_size, length))
    batch, held_out = texts[:batch_size], texts[batch_size:]
    times: dict[str, list[float]] = {"step_ms": [], "probe_ms": [], "eager_ms": []}
    with joma.watch(model, {"input_ids": held_out}, every=MEASURED_EVERY) as probe:
        for number in range(1, num_steps + 1):
            started = time.perf_counter()
            model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            stepped = time.perf_counter()
            probe.step()
            probed = time.perf_counter()
            times["step_ms"].append(stepped - started)
            if number % MEASURED_EVERY == 0:
                measure_as_eager(eager, held_out)
                times["probe_ms"].append(probed - stepped)
                times["eager_ms"].append(time.perf_counter() - probed)
    found = {name: 1000 * statistics.median(values[1:]) for name, values in times.items()}  # the first ones warm up
    return {**found, "overhead": found["probe_ms"] / (REPORTED_EVERY * found["step_ms"])}


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
        (f"step, {options.batch_size} × {options.length} tokens", f"{found['step_ms']:.1f} ms"),
        (f"probe, {options.probe_size} × {options.length} tokens", f"{found['probe_ms']:.1f} ms"),
        (f"one probe every {REPORTED_EVERY} steps adds", f"{found['overhead']:.2%} (aim: under 1 %)"),
        None,
        ("eager's attention weights and their entropies alone", f"{found['eager_ms']:.1f} ms"),
    ]
    show("Watching a GPT-2, 4 layers of 256", ("", "value"), rows, place)


if __name__ == "__main__":
    main()
