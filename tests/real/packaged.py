"""Measure the attention of a packaged model on a text; print the entropies, the time and the peak memory.

    python packaged.py scan|eager SOURCE LENGTH [TEXT]

Both load and build the model in the same way. ``scan`` measures all attention statistics, as ``joma scan`` does;
``eager`` materialises attention with ``output_attentions`` and computes its entropy. The output is JSON: mean entropy
per layer and head, seconds, and peak bytes, including those for loading.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch

from joma.measure.models.building import built, needed_names
from joma.measure.scan.steps import Plan, measure_step
from joma.saved.series import open_series
from joma.train.text.probe import probe_sequences, tokenizer_of
from joma.train.text.reading import read_text


def peak_bytes() -> int:
    """The peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def entropies_of_scan(plan: Plan) -> list[list[float]]:
    found: dict[int, list[float]] = {}
    for row in measure_step(plan, 0).rows:
        found.setdefault(row.layer, []).append(row.value)
    return [found[layer] for layer in sorted(found)]


def entropies_of_eager(plan: Plan) -> list[list[float]]:
    checkpoint = plan.series.checkpoint(0)
    tensors = plan.series.read(0, needed_names(checkpoint.tensors, with_head=False))
    model = built(checkpoint.config, tensors, with_head=False)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(plan.probe, output_attentions=True).attentions
        return [torch.special.entr(layer[0]).sum(-1).mean(-1).tolist() for layer in attentions]


def main(how: str, source: str, length: int, text: str | None = None) -> None:
    series = open_series(source)
    probe = probe_sequences(read_text(text), tokenizer_of(series), 1, length)
    plan = Plan(series, ("attention_entropy_nats",), probe, num_threads=2)
    started = time.monotonic()
    entropies = (entropies_of_scan if how == "scan" else entropies_of_eager)(plan)
    took = {"how": how, "length": length, "seconds": time.monotonic() - started, "peak_bytes": peak_bytes()}
    print(json.dumps({**took, "entropies": entropies}))


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
