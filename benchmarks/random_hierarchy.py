"""The Random Hierarchy Model: samples a second, and belief propagation compared with pgmpy's.

Samples, of 64 tokens with the symbol of every latent, are compared with two other generators: one that makes a sample
at a time with Python's `random`, and one that draws a batch level by level with plain indexing in torch, as published
code does. Belief propagation gives the posterior of the label and of every latent of 100,000 samples of 64 tokens, of
a law filtered above level 2, so that posteriors are not certain. pgmpy's message passing on a factor graph, with
one factor for each tuple, gets the same marginals for a few samples; its time for all is that time a sample. Without
pgmpy (`pip install pgmpy`) that row is left out. One thread; seconds are those of the processor.

    python benchmarks/random_hierarchy.py [--json] [--repeats 7] [--samples 100000] [--peer-samples 5]
"""

import argparse
import random
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from joma.problem.filtered import filtered
from joma.problem.random_hierarchy import RandomHierarchy
from joma.theory.belief import posterior
from table import machine, print_json, show

LAWS = {
    "s = 2, L = 6, m = 8": RandomHierarchy(8, 8, 8, branching=2, depth=6),
    "s = 2, L = 6, m = 3": RandomHierarchy(8, 8, 3, branching=2, depth=6),
    "s = 4, L = 3, m = 8": RandomHierarchy(8, 8, 8, branching=4, depth=3),
}
LEVEL, BATCH, NUM_ONE_BY_ONE = 2, 4096, 1000
SAMPLES_AIM, BELIEF_AIM = 20, 10


def one_by_one(law: RandomHierarchy) -> Callable[[], list]:
    rules, chance = [level.tolist() for level in law.rules], random.Random(0)

    def sample() -> list:
        rows = [[chance.randrange(law.num_classes)]]
        for level in reversed(rules):
            rows.append([symbol for parent in rows[-1] for symbol in chance.choice(level[parent])])
        return rows

    return sample


def with_indexing(law: RandomHierarchy) -> Callable[[], list]:
    generator = torch.Generator().manual_seed(0)

    def sample() -> list:
        rows = [torch.randint(law.num_classes, (BATCH, 1), generator=generator)]
        for level in reversed(law.rules):
            chosen = torch.randint(law.num_synonyms, rows[-1].shape, generator=generator)
            rows.append(level[rows[-1], chosen].flatten(1))
        return rows

    return sample


def seconds(act: Callable[[], object]) -> float:
    started = time.process_time()
    act()
    return time.process_time() - started


def rates(law: RandomHierarchy, repeats: int) -> dict[str, float]:
    """Samples a second of each way; they take turns, and the medians count."""
    generator = torch.Generator().manual_seed(0)
    single, plain = one_by_one(law), with_indexing(law)
    ways = {
        "joma": (lambda: [law.sample(BATCH, generator) for _ in range(8)], 8 * BATCH),
        "torch": (lambda: [plain() for _ in range(8)], 8 * BATCH),
        "python": (lambda: [single() for _ in range(NUM_ONE_BY_ONE)], NUM_ONE_BY_ONE),
    }
    law.sample(BATCH, generator)  # its tables are built once
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (act, num) in ways.items():
            found[name].append(num / seconds(act))
    return {name: statistics.median(values) for name, values in found.items()}


def factor_graph(law: RandomHierarchy):
    """The law as factors of pgmpy; nodes are named by level and place, the label is `y`."""
    from pgmpy.factors.discrete import DiscreteFactor
    from pgmpy.models import FactorGraph

    graph, factors = FactorGraph(), [DiscreteFactor(["y"], [law.num_classes], np.full(law.num_classes, 1 / 8))]
    for place, table in enumerate(law.top_marginals().transpose(0, 1).numpy()):
        factors.append(DiscreteFactor(["y", f"{LEVEL}_{place}"], table.shape, table))
    for level in range(LEVEL, -1, -1):
        shape = (law.num_symbols,) * (law.branching + 1)
        table = np.zeros(shape)
        for parent, rules in enumerate(law.rules[level].tolist()):
            for rule in rules:
                table[(parent, *rule)] += 1 / law.num_synonyms
        for place in range(law.num_places[level]):
            below = [f"{level - 1}_{law.branching * place + child}" for child in range(law.branching)]
            factors.append(DiscreteFactor([f"{level}_{place}", *below], shape, table))
    graph.add_nodes_from(dict.fromkeys(name for factor in factors for name in factor.scope()))
    graph.add_factors(*factors)
    graph.add_edges_from([(name, factor) for factor in factors for name in factor.scope()])
    return graph


def peer(law: RandomHierarchy, tokens: torch.Tensor) -> tuple[float, float]:
    """Seconds a sample of pgmpy, and the largest difference of its marginals from ours."""
    from pgmpy.inference import BeliefPropagationWithMessagePassing

    passing = BeliefPropagationWithMessagePassing(factor_graph(law))
    names = ["y", *(f"{level}_{place}" for level, num in enumerate(law.num_places) for place in range(num))]
    evidence = [{f"-1_{place}": token for place, token in enumerate(row)} for row in tokens.tolist()]
    results: list[dict] = []
    spent = seconds(lambda: results.extend(passing.query(names, evidence=seen) for seen in evidence))
    found = posterior(law, tokens)
    ours = [found.labels, *(level[:, place] for level in found.latents for place in range(level.shape[1]))]
    differences = [
        np.abs(result[name].values - values[row].numpy()).max()
        for row, result in enumerate(results)
        for name, values in zip(names, ours, strict=True)
    ]
    return spent / len(tokens), float(max(differences))


def beliefs(num: int, num_peer: int) -> dict[str, float | None]:
    law = filtered(LAWS["s = 2, L = 6, m = 8"], LEVEL)
    tokens = law.sample(num, torch.Generator().manual_seed(0)).tokens
    posterior(law, tokens[:BATCH])
    found: dict[str, float | None] = {"samples": num, "seconds": seconds(lambda: posterior(law, tokens))}
    try:
        import pgmpy  # noqa: F401
    except ImportError:
        return found | {"pgmpy_seconds_a_sample": None}
    a_sample, difference = peer(law, tokens[:num_peer])
    return found | {
        "pgmpy_samples": num_peer,
        "pgmpy_seconds_a_sample": a_sample,
        "ratio": a_sample * num / found["seconds"],
        "largest_difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--peer-samples", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)
    place = machine()
    sampled = {name: rates(law, arguments.repeats) for name, law in LAWS.items()}
    inferred = beliefs(arguments.samples, arguments.peer_samples)
    if arguments.json:
        print_json({"samples_per_second": sampled, "belief": inferred, "machine": place})
        return
    rows = [
        (
            name,
            *(f"{row[way]:,.0f}" for way in ("joma", "torch", "python")),
            f"{row['joma'] / row['torch']:.1f} ×",
            f"{row['joma'] / row['python']:.0f} × (aim {SAMPLES_AIM})",
        )
        for name, row in sampled.items()
    ]
    columns = ("64 tokens, v = 8", "joma", "plain torch", "one by one", "than torch", "than one by one")
    show("Samples a second of one thread's processor time", columns, rows, place)
    row = [f"{inferred['samples']:,}", f"{inferred['seconds']:.2f} s"]
    if inferred["pgmpy_seconds_a_sample"] is None:
        row += ["not installed", "–", "–"]
    else:
        row += [
            f"{1000 * inferred['pgmpy_seconds_a_sample']:.0f} ms ({inferred['pgmpy_samples']} samples)",
            f"{inferred['ratio']:,.0f} × (aim {BELIEF_AIM})",
            f"{inferred['largest_difference']:.0e}",
        ]
    columns = ("samples", "all of them", "pgmpy, one sample", "faster", "largest difference")
    show(f"Posteriors of label and latents, 64 tokens, filtered above level {LEVEL}", columns, [row], place)


if __name__ == "__main__":
    main()
