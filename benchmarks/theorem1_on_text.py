"""Theorem 1 on networks that are trained on text: the numbers of text.theorem1 over depth, learning rate and length.

Every network is trained for `--num-steps` steps with a snapshot every 80, and read over its first 800 steps and over
all of them, ten snapshots each. Finished runs are kept, so that a grid that was stopped goes on.

    python benchmarks/theorem1_on_text.py OUT [--text wikitext2] [--num-steps 3200] [--num-seeds 3] [--json]
"""

import argparse
from pathlib import Path

from joma.claims.text.motion import layers_of
from joma.claims.text.theorem1 import compared
from joma.claims.workspace import TextChoice, Workspace
from joma.train.recipes import paper_figure6
from table import machine, print_json, show

EVERY, SHORT = 80, 800
NETWORKS = [
    *((depth, rate, "full network") for depth in (1, 3) for rate in (1e-3, 1e-4)),
    *((1, 1e-3, variant) for variant in ("frozen value path", "no LayerNorm")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", default="wikitext2")
    parser.add_argument("--num-steps", type=int, default=3200)
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    workspace = Workspace(options.out, text=TextChoice(options.text))
    tokens = workspace.tokens()
    recipes = [
        recipe(len(tokens.vocabulary), *network, seed, options) for network in NETWORKS for seed in seeds(options)
    ]
    runs = iter(workspace.train([(each, "in order") for each in recipes]))
    found = {}
    for depth, rate, variant in NETWORKS:
        of_network = [next(runs) for _ in seeds(options)]
        for length in sorted({min(SHORT, options.num_steps), options.num_steps}):
            steps = range(0, length + 1, max(EVERY, length // 10 // EVERY * EVERY))
            every = zip(*(layers_of(tokens, run, steps) for run in of_network), strict=True)
            name = f"{variant} of {depth} layers at {rate:g}, {steps[-1]:,} steps"
            found |= {f"{name}, layer {number}": numbers(layers) for number, layers in enumerate(every)}
    if options.json:
        print_json(machine() | found)
        return
    for name, values in found.items():
        show(name, ("number", "over seeds"), list(values.items()), machine())


def seeds(options) -> range:
    return range(options.num_seeds)


def recipe(size: int, depth: int, rate: float, variant: str, seed: int, options):
    name = f"{variant.replace(' ', '-')}_{depth}-layers_{rate:g}_seed-{seed}"
    settings = {"num_steps": options.num_steps, "snapshot_every": EVERY, "probe_every": 400, "early_until": 0}
    network = {"num_layers": depth, "learning_rate": rate, "variant": variant, "seed": seed}
    return paper_figure6(size, name=name, **settings, **network)


def numbers(layers) -> dict[str, str]:
    """Mean and standard deviation over seeds of the deciding number, of its controls and of the findings."""
    measured, controls, findings = compared(layers)
    estimates = {"deciding number": measured} | {one.name: one.estimate for one in (*controls, *findings)}
    return {name: f"{one.mean:.3f} ± {one.standard_deviation:.3f}" for name, one in estimates.items()}


if __name__ == "__main__":
    main()
