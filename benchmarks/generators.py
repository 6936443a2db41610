"""Samples a second of the hierarchies' generators, each compared with a straightforward one that makes one at a time.

The straightforward ones draw with Python's `random`, keep Python sets, and give lists; the package's draw a batch at
once and give tensors. Both give tokens, labels and the presence of every latent, and run on one thread. Seconds are
those of the processor, so that a busy machine disturbs neither; the two take turns, and the medians count. Aim: 20
times as many.

    python benchmarks/generators.py [--json] [--repeats 15]
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch

from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.tree import LatentTree, Law, balanced_tree
from table import machine, print_json, show

NUM_STRAIGHTFORWARD = 2000
AIM = 20


def presence(levels: list[set[int]], law: Law) -> list[list[bool]]:
    return [[latent in there for latent in range(size)] for there, size in zip(levels, law.level_sizes, strict=True)]


def table_one_by_one(law: Combinatorial, chance: random.Random) -> Callable[[], tuple]:
    tokens_of, middle, classes = ([set(latent[0]) for latent in level] for level in law.members)

    def sample() -> tuple:
        label = chance.randrange(len(classes))
        upper = classes[label]
        lower = set().union(*[middle[latent] for latent in upper])
        tokens = sorted(set().union(*[tokens_of[latent] for latent in lower]))
        return [law.padding] * (law.length - len(tokens)) + tokens, label, presence([lower, upper], law)

    return sample


def extension_one_by_one(law: Combinatorial, chance: random.Random) -> Callable[[], tuple]:
    draw, show_probability = chance.random, law.show_probability

    def shown(alternatives: tuple[tuple[int, ...], ...]) -> list[int]:
        members = alternatives[0] if len(alternatives) == 1 else chance.choice(alternatives)
        return [member for member in members if draw() < show_probability]

    def sample() -> tuple:
        label = chance.randrange(law.num_labels)
        present, levels = {label}, []
        for level in reversed(law.members):
            below = set()
            for latent in present:
                below.update(shown(level[latent]))
            levels.append(below)
            present = below
        tokens = sorted(present)
        return [law.padding] * (law.length - len(tokens)) + tokens, label, presence(levels[-2::-1], law)

    return sample


def tree_one_by_one(tree: LatentTree, chance: random.Random) -> Callable[[], tuple]:
    draw = chance.random
    keeps = [(1 + polarity) / 2 for polarity in tree.polarities]
    number = {node: idx for level in tree.levels for idx, node in enumerate(level)}
    top = [keeps[node] for node in tree.levels[1]]
    below = [[(number[tree.parents[node]], keeps[node]) for node in level] for level in tree.levels[2:]]

    def sample() -> tuple:
        label = chance.randrange(tree.num_labels)
        present = {idx for idx, sign in enumerate(tree.label_signs[label]) if (draw() < top[idx]) == (sign > 0)}
        levels = [present]
        for level in below:
            present = {idx for idx, (parent, keep) in enumerate(level) if (draw() < keep) == (parent in present)}
            levels.append(present)
        tokens = sorted(present)
        return [tree.padding] * (tree.length - len(tokens)) + tokens, label, presence(levels[-2::-1], tree)

    return sample


LAWS: dict[str, tuple[Law, Callable, int]] = {  # and the batch
    "(a) tree, 64 tokens, branching 2": (balanced_tree((2,) * 6, 0.7), tree_one_by_one, 1024),
    "(a) tree, 100 tokens, branching 4, 5, 5": (balanced_tree((4, 5, 5), 0.7), tree_one_by_one, 2048),
    "(b) the paper's table": (random_hierarchy(20), table_one_by_one, 4096),
    "(c) members shown with 0.8": (random_hierarchy(20, show_probability=0.8), extension_one_by_one, 4096),
    "(c) and two sets a latent": (
        random_hierarchy(20, show_probability=0.8, num_alternatives=2),
        extension_one_by_one,
        4096,
    ),
}


def rates(law: Law, one_by_one: Callable, batch: int, repeats: int) -> tuple[float, float]:
    """Samples a second, ours and straightforward."""
    generator = torch.Generator().manual_seed(0)
    sample = one_by_one(law, random.Random(0))
    num_batches = max(1, 65536 // batch)
    law.sample(batch, generator)  # its tables are built once
    ours, theirs = [], []
    for _ in range(repeats):
        started = time.process_time()
        for _ in range(num_batches):
            law.sample(batch, generator)
        ours.append(num_batches * batch / (time.process_time() - started))
        started = time.process_time()
        for _ in range(NUM_STRAIGHTFORWARD):
            sample()
        theirs.append(NUM_STRAIGHTFORWARD / (time.process_time() - started))
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    place = machine()
    found = {}
    for name, (law, one_by_one, batch) in LAWS.items():
        ours, theirs = rates(law, one_by_one, batch, arguments.repeats)
        found[name] = {"batch": batch, "per_second": ours, "one_by_one_per_second": theirs, "ratio": ours / theirs}
    if arguments.json:
        print_json({"laws": found, "aim": AIM, "machine": place})
        return
    rows = [
        (
            name,
            str(row["batch"]),
            f"{row['per_second']:,.0f}",
            f"{row['one_by_one_per_second']:,.0f}",
            f"{row['ratio']:.0f} × (aim {AIM}{'' if row['ratio'] >= AIM else ', missed'})",
        )
        for name, row in found.items()
    ]
    title = "Samples a second of one thread's processor time"
    show(title, ("law", "batch", "batched", "one by one", "faster"), rows, place)


if __name__ == "__main__":
    main()
