"""Make the small examples that `joma explore` shows without a folder of one's own: a run, a hierarchy, claims.

A decoder of two layers and four heads on 1,000 words of WikiText-2 (a few minutes of one core), a decoder on a latent
tree (a minute), and the claims that the page touches. What is finished in FOLDER is kept and not computed again.

    JOMA_DATA=... python results/explorer.py FOLDER [run] [tree] [claims]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from joma.files import replacing
from joma.problem.tree import balanced_tree
from joma.provenance import versions
from joma.studies.explore_parts import CLAIMS, run_part, sentence_part, tree_part
from joma.studies.measurements import read_measurements
from joma.studies.reproduce import reproduce
from joma.studies.sentence import sentence
from joma.train.recipes import hierarchy_recipe, paper_figure6
from joma.train.text.reading import read_text
from joma.train.text.vocabulary import kept_tokens, tokenize
from joma.train.training import train

SHIPPED = Path(__file__).parents[1] / "src" / "joma" / "studies" / "shipped"
TEXT, NUM_WORDS = "wikitext2", 1000
SENTENCE = "the king and his son were killed in the battle"
OF_CLAIM = ("id", "statement", "criterion", "measured", "controls", "conclusion", "verdict", "error", "skipped")


def real_run(folder: Path) -> dict[str, Any]:
    """Train the settings of claim text.sparse_then_dense, profile quick, with two layers of four heads."""
    tokens = kept_tokens(folder / "text" / "text.safetensors", lambda: tokenize(read_text(TEXT), NUM_WORDS))
    recipe = paper_figure6(
        NUM_WORDS,
        name="run",
        num_layers=2,
        num_heads=4,
        learning_rate=1e-3,
        num_steps=800,
        probe_every=25,
        snapshot_every=50,
        checkpoint_every=800,
    )
    run = train(recipe, tokens, folder / "runs" / recipe.name)
    table, _ = read_measurements([run.folder])
    read = sentence(run.folder, SENTENCE, steps=run.snapshots()[::2])
    part = run_part(table, recipe.name, sentence_part(read.text, read.tokens, read.weights))
    assert part is not None
    made = (
        f"a decoder of 2 layers with 4 heads, width 200, post-norm, ReLU, trained for {recipe.num_steps} steps of Adam "
        f"at {recipe.learning_rate:g} on the {NUM_WORDS:,} commonest words of WikiText-2, one seed"
    )
    return part | {"made": f"{made}; shipped with joma"}


def hierarchy(folder: Path) -> dict[str, Any]:
    """Train the tree of claim hierarchy.alignment, and look at it more often."""
    law = balanced_tree((4, 3, 3), 0.9, num_labels=8, seed=0)
    recipe = hierarchy_recipe(law, num_steps=400, name="tree", width=64, hidden=256, snapshot_every=20)
    part = tree_part(train(recipe, law, folder / "runs" / recipe.name))
    made = (
        f"a decoder of 2 layers, width 64, trained for {recipe.num_steps} steps on the labels of a latent tree of 36 "
        "tokens (polarity 0.9), one seed"
    )
    return part | {"made": f"{made}; shipped with joma"}


def claims(folder: Path) -> dict[str, Any]:
    """Evaluate the claims in profile quick, and keep what the page shows."""
    ids = [id for of_part in CLAIMS.values() for id in of_part]
    record = reproduce(*ids, out=folder / "claims", text=TEXT).record
    kept = [{name: entry.get(name) for name in OF_CLAIM} for entry in record["claims"]]
    return {name: record[name] for name in ("profile", "text", "created", "versions")} | {"claims": kept}


PARTS = {"run": real_run, "tree": hierarchy, "claims": claims}


def main(folder: Path, *names: str) -> None:
    """Make the three files, or those that are named."""
    for name in names or PARTS:
        made = PARTS[name](folder)
        about = {"command": f"python results/{Path(__file__).name}", "versions": versions()}
        text = json.dumps(about | made, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        with replacing(SHIPPED / f"{name}.json") as path:
            path.write_text(f"{text}\n", encoding="utf-8")
        print(f"{name}.json: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
