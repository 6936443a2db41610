"""Samples of a hierarchy as terminal tables and as JSON."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from rich.console import Group
from rich.text import Text

from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import hierarchy_of, token_presence
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law, Samples, digest
from joma.report.drawing.tables import table_of

_ROWS = 10
_NUMBERS = 200  # at most, in one cell: rich takes minutes to lay out a cell of a million


def law_text(law: Law) -> str:
    """Describe a law in a few words."""
    hierarchy = hierarchy_of(law)
    if isinstance(hierarchy, RandomHierarchy):
        return _model_text(hierarchy) + ("" if hierarchy is law else ", labels independent of the tokens")
    levels = ", ".join(map(str, law.level_sizes)) or "no"
    kind, labels = "latent tree", f"{law.num_labels} labels"
    if isinstance(hierarchy, Combinatorial):
        kind = "table with one input per class" if hierarchy.is_table else "random hierarchy"
        labels = f"{law.num_labels} classes"
    unrelated = "" if hierarchy is law else " independent of the tokens"
    return f"{kind}: {law.num_tokens} tokens, {levels} latents, {labels}{unrelated}"


def sample_row(law: Law, samples: Samples, index: int) -> dict[str, Any]:
    """Return one sample with the columns of a dataset."""
    tokens, label = samples.tokens[index].tolist(), int(samples.labels[index])
    latents = samples.symbols or samples.presence
    levels = {f"level_{level}": row[index].tolist() for level, row in enumerate(latents)}
    return {"tokens": tokens, "label": label, **levels}


def sample_record(law: Law, samples: Samples, seed: int) -> dict[str, Any]:
    """Return the law, mean numbers of tokens and latents, and every sample, as plain data for strict JSON."""
    return {
        "law": law.to_json(),
        "digest": digest(law),
        "seed": seed,
        "mean_num_tokens": float((samples.tokens != law.padding).sum(-1).double().mean()),
        "mean_presence": [present.double().mean(0).tolist() for present in samples.presence],
        "samples": [sample_row(law, samples, index) for index in range(len(samples.labels))],
    }


def sample_table(law: Law, samples: Samples) -> Group:
    """Return a table of the first samples: symbols of all places, or numbers of present latents, and tokens."""
    num, mean = len(samples.labels), float((samples.tokens != law.padding).sum(-1).double().mean())
    shares = ", ".join(f"level {s} {float(present.double().mean()):.2f}" for s, present in enumerate(samples.presence))
    about = f"; latents present: {shares}" if shares and not samples.symbols else ""
    caption = f"{num:,} samples of {mean:.1f} tokens on average{about}"
    words = [*(f"level {level}" for level in reversed(range(len(samples.presence)))), "tokens"]
    table = table_of(("label", *words), left=words, fold=True)
    for index in range(min(num, _ROWS)):
        levels = [_numbers(symbols[index]) for symbols in reversed(samples.symbols)]
        levels = levels or [_numbers(present[index].nonzero()[:, 0]) for present in reversed(samples.presence)]
        tokens = samples.tokens[index]
        table.add_row(str(int(samples.labels[index])), *levels, _numbers(tokens[tokens != law.padding]))
    return Group(Text(law_text(law)), table, Text(caption))


def present_rows(law: Law, samples: Samples, index: int = 0) -> list[Bool[torch.Tensor, " n"]]:
    """Return the presence of all nodes in one sample: tokens, then each level, then the label."""
    label = torch.arange(law.num_labels) == samples.labels[index]
    if isinstance(hierarchy_of(law), LatentTree):
        label = torch.ones(1, dtype=torch.bool)  # one node, for every label
    levels = [present[index] for present in samples.presence]
    return [token_presence(law, samples.tokens[index : index + 1])[0], *levels, label]


def symbol_rows(samples: Samples, index: int = 0) -> list[list[int]]:
    """Return the symbols of all places in one sample of a random hierarchy model: tokens, each level, the label."""
    rows = [samples.tokens, *samples.symbols, samples.labels[:, None]]
    return [row[index].tolist() for row in rows]


def _model_text(law: RandomHierarchy) -> str:
    levels = ", ".join(map(str, law.num_places)) or "no"
    rules = f"{law.num_synonyms} synonyms of {law.branching} symbols" + ", uncorrelated" * law.uncorrelated
    cut = "" if law.filtered_above is None else f", filtered above level {law.filtered_above}"
    places = f"{law.num_symbols} tokens at {law.length} places, {levels} latents"
    return f"random hierarchy model: {places}, {law.num_labels} classes, {rules}{cut}"


def _numbers(values: torch.Tensor) -> str:
    text = " ".join(map(str, values[:_NUMBERS].tolist())) or "–"
    return text if len(values) <= _NUMBERS else f"{text} … ({len(values):,} in all)"
