"""What the explorer draws, as plain data: the theory's examples, a training run, a hierarchy, claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from joma.claims.dynamics.nonlinear import NUM_STEPS, STEP, targets
from joma.claims.hierarchy.levels import gain
from joma.claims.theorem1.flow import N_HIDDEN, model_of
from joma.errors import BadInput
from joma.files import read_json
from joma.measure.curves.quantities import ENTROPY
from joma.problem.classes import random_parameters
from joma.records import agreement_from_json
from joma.report.drawing.rows import rows_of
from joma.report.pages.explore import Evidence
from joma.theory.dynamics import paper_figure4
from joma.tidy import early_and_even
from joma.train.decoder import seed_of
from joma.train.hierarchies import seeded_samples
from joma.train.latents import level_by_level

if TYPE_CHECKING:
    import pandas
    from jaxtyping import Float
    from torch import Tensor

    from joma.train.run import Run

CLAIMS: Mapping[str, Sequence[str]] = {
    "theory": ("nonlinear.sparse_then_dense", "theorem2", "theorem4"),
    "invariant": ("theorem1.exp", "theorem1.linear", "theorem1.softmax", "discretisation.sgd", "discretisation.adam"),
    "run": ("text.sparse_then_dense", "text.mechanism"),
    "tree": ("hierarchy.alignment", "hierarchy.order"),
}
"""The claims that each part of the page touches."""

MOST_NUMBERS = 20_000
"""Of the entropies of a run, and of a sentence's weights: some 100 kB each."""
_FEWEST_STEPS = 8
_NUM_SAMPLES, _NUM_PERMUTATIONS = 2000, 20


def theory_part() -> dict[str, Any]:
    """Return the example of the paper's Figure 4, and the one-layer model of claim theorem1.exp with its start."""
    figure4 = paper_figure4(rates=targets(0))
    model = model_of("exp", "tanh", [0])
    start = random_parameters(model, N_HIDDEN, [0], scale=0.3, logit=1.0)
    assert start.upper is not None
    return {
        "figure4": {
            "rates": figure4.rates.tolist(),
            "v0": float(figure4.v0[0]),
            "gain": figure4.gain,
            "end": STEP * NUM_STEPS,
        },
        "at": figure4.sparsest().time / (STEP * NUM_STEPS),  # where the time slider stands at first
        "layer": {
            "context": model.context[0, 0].tolist(),
            "labels": model.targets[0, 0].argmax(-1).tolist(),
            "weights": start.weights[0].tolist(),
            "upper": start.upper[0].tolist(),
            "logit": float(start.attention_logits[0, 0, 0]),
        },
    }


def run_part(table: pandas.DataFrame, name: str, sentence: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the attention entropy of each layer and head over training; ``None`` if a table has no finite one.

    Args:
        table: measurements (docs/metrics.md).
        name: of the run in it.
        sentence: attention to one sentence over the saved steps (``sentence_part``).
    """
    rows = table[(table["run"] == name) & (table["metric"] == ENTROPY) & table["layer"].notna()]
    rows = rows[rows["group"].isna()] if "group" in rows else rows
    is_finite = np.isfinite(rows["value"])
    if not is_finite.any():
        return None
    heads = rows.assign(head=rows["head"].fillna(-1), value=rows["value"].where(is_finite))
    wide = heads.groupby(["step", "layer", "head"])["value"].mean().unstack(["layer", "head"]).sort_index(axis=1)
    layers = wide.columns.get_level_values(0).unique()
    kept = layers[early_and_even(len(layers), max(2, MOST_NUMBERS * len(layers) // (_FEWEST_STEPS * wide.shape[1])))]
    wide = wide[kept]
    wide = wide.iloc[early_and_even(len(wide), max(_FEWEST_STEPS, MOST_NUMBERS // wide.shape[1]))]
    return {
        "name": name,
        "steps": wide.index.tolist(),
        "rows": [
            {
                "layer": int(layer),
                "head": None if head < 0 else int(head),
                "entropy": _numbers(wide[layer, head].to_numpy()),
            }
            for layer, head in wide.columns
        ],
        "left_out": len(layers) - len(kept),
        "not_finite": int((~is_finite).sum()),
        "sentence": sentence,
    }


def sentence_part(
    text: str, tokens: Sequence[Sequence[str]], weights: Mapping[int, Float[Tensor, "2 layers heads L L"]]
) -> dict[str, Any]:
    """Return every weight in thousandths: by step, order, layer, head and query.

    Of a large network these are means over heads, of some layers, at two steps or more.

    Args:
        text: the sentence.
        tokens: as written, and shuffled.
        weights: by step, as written and shuffled.
    """
    steps = sorted(weights)
    _, num_layers, num_heads, length, _ = weights[steps[0]].shape
    has_heads = 2 * weights[steps[0]].numel() <= MOST_NUMBERS
    of_layer = 2 * length**2 * (num_heads if has_heads else 1)
    layers = early_and_even(num_layers, max(2, MOST_NUMBERS // (2 * of_layer)))
    steps = [steps[at] for at in early_and_even(len(steps), max(2, MOST_NUMBERS // (len(layers) * of_layer)))]
    shown = [weights[step] if has_heads else weights[step].mean(2, keepdim=True) for step in steps]
    left_out = {
        "single heads": not has_heads,
        f"{num_layers - len(layers)} of {num_layers} layers": len(layers) < num_layers,
    }
    return {
        "text": text,
        "tokens": [list(order) for order in tokens],
        "steps": steps,
        "layers": layers.tolist(),
        "has_heads": has_heads,
        "left_out": ", ".join(name for name, is_left in left_out.items() if is_left),
        "weights": [(1000 * found[:, layers]).round().int().tolist() for found in shown],
    }


def tree_part(run: Run, num_samples: int = _NUM_SAMPLES) -> dict[str, Any]:
    """Return how well each latent is found in its level's own layer at every snapshot of a run of ``joma tree train``.

    The score is the correlation with the best unit, chosen and scored on different samples, corrected for chance: 0 is
    what shuffled latents reach, 1 is perfect.

    Raises:
        BadInput: a run without latents, without a layer for each level of them, or without snapshots.
    """
    law, steps = run.law(), run.snapshots()
    if not steps or not law.level_sizes or run.recipe.decoder.num_layers != len(law.level_sizes):
        raise BadInput(
            f"{run.folder} has no latents that could be followed over training",
            expected="snapshots of a network with a layer for each level of latents",
            remedy="train one with `joma tree train`",
        )
    samples = seeded_samples(law, num_samples, seed_of(0, "alignment"), shuffled=run.recipe.shuffle_tokens)
    scores = [
        [
            [math.nan if match.corrected is None else match.corrected for match in level.best.latents]
            for level in level_by_level(
                run.decoder(step), samples.tokens, samples.presence, num_permutations=_NUM_PERMUTATIONS
            )
        ]
        for step in steps
    ]
    rows = rows_of(law)
    accuracy = [(m.step, m.value) for m in run.measurements() if m.metric == "val_accuracy"]
    return {
        "places": [_numbers(row) for row in rows.places],
        "edges": [pairs.tolist() for pairs in rows.edges],
        "steps": steps,
        "scores": [[_numbers(np.array(level)) for level in levels] for levels in scores],
        **_gains(scores),
        "accuracy": {"steps": [step for step, _ in accuracy], "values": [round(value, 4) for _, value in accuracy]},
        "guessing": 1 / law.num_labels,
    }


def _gains(scores: Sequence[Sequence[Sequence[float]]]) -> dict[str, Any]:
    """The share of the distance from the untrained scores to 1 that is covered, of latents and of means of levels."""
    first = [np.array(level) for level in scores[0]]
    by_step = [[np.array(level) for level in levels] for levels in scores]
    return {
        "gains": [[_numbers(gain(*pair)) for pair in zip(levels, first, strict=True)] for levels in by_step],
        "level_gains": [
            _numbers(
                np.array([gain(np.nanmean(now), np.nanmean(then)) for now, then in zip(levels, first, strict=True)])
            )
            for levels in by_step
        ],
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    """Plain numbers of four decimals, ``None`` for what is not finite."""
    return [round(value, 4) if np.isfinite(value) else None for value in values.tolist()]


def evidence_in(path: Path) -> tuple[dict[str, Evidence], str]:
    """Return the claims in a ``claims.json`` of ``joma reproduce`` by id, and how they were evaluated, in words.

    Raises:
        BadInput: the file cannot be read.
    """
    expected, remedy = "what `joma reproduce` wrote", "run it again in this folder"
    record = read_json(path, dict[str, Any], expected=expected, remedy=remedy)
    try:
        found = {entry["id"]: _evidence(entry) for entry in record["claims"]}
        made = f"profile {record['profile']}, {record['created'][:10]}, joma {record['versions']['joma']}"
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error})", expected=expected, remedy=remedy) from error
    return found, f"joma reproduce, {made}" + (f", text: {record['text']}" if record["text"] else "")


_OF_AGREEMENT = ("criterion", "measured", "controls", "conclusion")


def _evidence(entry: Mapping[str, Any]) -> Evidence:
    """Read one claim; its verdict is computed again, by the rule that all claims share."""
    agreement = None
    if entry["verdict"] is not None:
        agreement = agreement_from_json({name: entry[name] for name in _OF_AGREEMENT})
    return Evidence(entry["id"], entry["statement"], agreement, entry["error"] or entry["skipped"] or "")
