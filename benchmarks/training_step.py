"""What a training step costs, how far that is from its limit, and what measuring adds at one probe every 100 steps.

Three things of one run, with one thread: the time between two steps of the real loop, with a probe in between and
without one; the straightforward loop (torch's layers, all logits at once, torch's cross entropy); and the three
products of the output layer alone, which no exact step can avoid. Memory is what a step allocates at most beyond
weights and optimiser. Aims: probes under 2 %, a step at 28,782 words at most 1.5 times its limit.

    python benchmarks/training_step.py [--json] [--vocabulary-size 1000] [--num-steps 400]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from joma.threads import threads
from joma.train import products
from joma.train.decoder import Decoder, DecoderConfig
from joma.train.products import linear
from joma.train.recipes import Recipe, paper_figure6
from joma.train.text.vocabulary import Tokens
from joma.train.training import train

MEASURED_EVERY = 20  # probes are made more frequent than the 100 steps reported, so that there are enough to time
REPORTED_EVERY = 100
REPETITIONS = 7


def random_tokens(num_words: int) -> Tokens:
    """Words at random, whose order has no influence on the time of a step."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(num_words, (num,), generator=generator) for num in (200_000, 20_000)]
    return Tokens("random", "random words", *ids, tuple(f"word{n}" for n in range(num_words)), "random", 0.0)


def of_the_loop(recipe: Recipe) -> dict[str, float]:
    seen: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            recipe,
            random_tokens(recipe.decoder.vocabulary_size),
            Path(folder) / "run",
            progress=lambda what, done, total: seen.append(time.perf_counter()),
        )
    # Step n's time ends when its probe is done. The first steps warm up.
    times = {step: 1000 * (seen[step] - seen[step - 1]) for step in range(MEASURED_EVERY // 2, recipe.num_steps)}
    plain = statistics.median(value for step, value in times.items() if step % MEASURED_EVERY)
    probed = statistics.median(value for step, value in times.items() if step % MEASURED_EVERY == 0)
    return {
        "step_ms": plain,
        "probe_ms": probed - plain,
        "overhead": (probed - plain) / (REPORTED_EVERY * plain),
    }


class Straightforward(torch.nn.Module):
    """The same network from torch's own parts."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(config.vocabulary_size, config.width)
        layer = torch.nn.TransformerEncoderLayer(
            config.width, config.num_heads, config.hidden, config.dropout, batch_first=True
        )
        self.encoder = torch.nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.output = torch.nn.Linear(config.width, config.vocabulary_size)
        self.drop = torch.nn.Dropout(config.dropout)

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        mask = torch.nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
        logits = self.output(self.encoder(self.drop(self.embedding(inputs)), mask=mask, is_causal=True))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def step_of(network: Straightforward | Decoder, recipe: Recipe) -> Callable[[], None]:
    """One step of training on a batch of random words."""
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    generator = torch.Generator().manual_seed(0)
    shape = (2, recipe.batch_size, recipe.length)
    inputs, targets = torch.randint(recipe.decoder.vocabulary_size, shape, generator=generator)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network.loss(inputs, targets).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
        optimizer.step()

    return step


def products_of_the_output(recipe: Recipe) -> Callable[[], None]:
    """The logits, and their gradient for the inputs and for the weights; as many rows at a time as in training."""
    size, num_rows = recipe.decoder.vocabulary_size, recipe.batch_size * recipe.length
    x, weight = torch.randn(num_rows, recipe.decoder.width), torch.randn(size, recipe.decoder.width)
    transposed, at_a_time = weight.t().contiguous(), max(1, products.MOST_LOGITS_BYTES // (4 * size))

    def multiply() -> None:
        for part in x.split(at_a_time):
            logits = linear(part, weight)
            linear(logits, transposed)
            linear(logits.t(), part.t())

    return multiply


def milliseconds(do: Callable[[], None]) -> float:
    times = []
    for _ in range(REPETITIONS + 2):
        start = time.perf_counter()
        do()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def peak_mb(do: Callable[[], None]) -> float:
    """The most that a call allocates on top of what there is, in MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        do()
    events = sorted(
        (event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most / 1e6


def figures(vocabulary_size: int, num_steps: int) -> dict[str, float]:
    recipe = paper_figure6(
        vocabulary_size, num_steps=num_steps, early_until=0, probe_every=MEASURED_EVERY, checkpoint_every=num_steps
    )
    found = of_the_loop(recipe)
    with threads(recipe.num_threads):
        ours = step_of(Decoder(recipe.decoder).train(), recipe)
        plain = step_of(Straightforward(recipe.decoder).train(), recipe)
        with torch.no_grad():
            limit = milliseconds(products_of_the_output(recipe))
        found |= {"limit_ms": limit, "straightforward_ms": milliseconds(plain), "ours_alone_ms": milliseconds(ours)}
        found |= {"straightforward_mb": peak_mb(plain), "ours_mb": peak_mb(ours)}
    return found | {
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

    table = Table("", "value", title=f"A training step, vocabulary {found['vocabulary_size']:,}, one thread")
    table.add_row("step of the loop", f"{found['step_ms']:.1f} ms")
    table.add_row("the three products of the output layer alone", f"{found['limit_ms']:.1f} ms")
    table.add_row("a step takes, of these", f"{found['ours_alone_ms'] / found['limit_ms']:.2f} times")
    table.add_row("straightforward step", f"{found['straightforward_ms']:.1f} ms")
    table.add_row("its time, of ours", f"{found['straightforward_ms'] / found['ours_alone_ms']:.2f} times")
    table.add_row(
        "memory, straightforward and ours", f"{found['straightforward_mb']:.0f} and {found['ours_mb']:.0f} MB"
    )
    table.add_row(f"probe on {found['num_probe_sequences']} sequences", f"{found['probe_ms']:.1f} ms")
    table.add_row(f"one probe every {REPORTED_EVERY} steps adds", f"{found['overhead']:.2%} (aim: under 2 %)")
    Console().print(table)


if __name__ == "__main__":
    main()
