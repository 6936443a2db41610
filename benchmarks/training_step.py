"""What a training step costs, and what measuring adds to it at one probe every 100 steps.

Both come from one and the same run of the real loop: the time between two steps with a probe in between, and
without one. Aim: under 2 % more.

    python benchmarks/training_step.py [--json] [--vocabulary-size 1000] [--num-steps 400]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from joma.train.recipes import paper_figure6
from joma.train.text.reading import read_text
from joma.train.text.vocabulary import tokenize
from joma.train.training import train

MEASURED_EVERY = 20  # probes are made more frequent than the 100 steps reported, so that there are enough to time
REPORTED_EVERY = 100


def figures(vocabulary_size: int, num_steps: int) -> dict[str, float]:
    recipe = paper_figure6(
        vocabulary_size, num_steps=num_steps, early_until=0, probe_every=MEASURED_EVERY, checkpoint_every=num_steps
    )
    tokens = tokenize(read_text(), vocabulary_size)
    seen: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, tokens, Path(folder) / "run", progress=lambda done, total: seen.append(time.perf_counter()))
    # Step n's time ends when its probe is done. The first steps warm up.
    times = {step: 1000 * (seen[step] - seen[step - 1]) for step in range(MEASURED_EVERY // 2, num_steps)}
    plain = statistics.median(value for step, value in times.items() if step % MEASURED_EVERY)
    probed = statistics.median(value for step, value in times.items() if step % MEASURED_EVERY == 0)
    return {
        "step_ms": plain,
        "probe_ms": probed - plain,
        "overhead": (probed - plain) / (REPORTED_EVERY * plain),
        "vocabulary_size": vocabulary_size,
        "num_probe_sequences": recipe.num_probe_sequences,
        "num_threads": recipe.num_threads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--vocabulary-size", type=int, default=1000)
    parser.add_argument("--num-steps", type=int, default=400)
    arguments = parser.parse_args()
    found = figures(arguments.vocabulary_size, arguments.num_steps)
    if arguments.json:
        print(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", title=f"A training step, vocabulary {found['vocabulary_size']}, one thread")
    table.add_row("step", f"{found['step_ms']:.1f} ms")
    table.add_row(f"probe on {found['num_probe_sequences']} sequences", f"{found['probe_ms']:.1f} ms")
    table.add_row(f"one probe every {REPORTED_EVERY} steps adds", f"{found['overhead']:.2%} (aim: under 2 %)")
    Console().print(table)


if __name__ == "__main__":
    main()
