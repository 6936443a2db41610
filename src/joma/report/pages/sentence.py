"""The page of ``joma.sentence``: who attends to whom, at any step, layer and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from joma.report.drawing.heatmaps import heatmap_plot
from joma.report.pages.document import document
from joma.report.sentence import frame_of, maps
from joma.tidy import early_and_even

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_MOST_NUMBERS = 3_000_000  # in the page: some 10 MB


def sentence_page(
    weights: Mapping[int, Float[Tensor, "2 layers heads L L"]],
    tokens: Sequence[Sequence[str]],
    summary: str,
    about: Mapping[str, str],
    *,
    created: datetime,
    versions: Mapping[str, str],
) -> str:
    """Return the page as HTML; of many steps of a large network it has as many as fit.

    Args:
        weights: by step.
        tokens: as written and shuffled.
        summary: what is seen, in words.
        about: the sentence and where it was read, by name.
        created: time at which the page is written.
        versions: of the software, by name.
    """
    there = sorted(weights)
    most = max(2, _MOST_NUMBERS // weights[there[0]].numel())
    steps = [there[at] for at in early_and_even(len(there), most)]
    num_layers, num_heads = weights[steps[0]].shape[1:3]
    pair = maps(weights[steps[-1]], tokens, 0, None, steps[-1])
    highest = _highest([weights[step] for step in steps])
    caption = f"Rows attend to columns. Colours mean the same everywhere, and end at {highest:.2g}."
    pair = [replace(heatmap, caption=caption) for heatmap in pair]
    plots: dict[str, Any] = {}
    for order, heatmap in enumerate(pair):
        frames = [[_of_layer(weights[step][order, layer]) for layer in range(num_layers)] for step in steps]
        plot = heatmap_plot(heatmap)
        plot["data"][0] |= {"zmin": 0, "zmax": highest}
        plots[f"sentence/{order}"] = plot | {"frames": frames}
    return document(
        "sentence.html",
        "joma show: one sentence",
        plots,
        pair={f"sentence/{order}": heatmap for order, heatmap in enumerate(pair)},
        steps=[f"{step:,}" for step in steps],
        layers=[f"layer {layer}" for layer in range(num_layers)],
        heads=["mean over heads", *(f"head {head}" for head in range(num_heads))],
        left_out=len(there) - len(steps),
        summary=summary,
        about=about,
        created=created,
        versions=versions,
    )


def _of_layer(weights: Float[Tensor, "heads L L"]) -> list[list[list[float]]]:
    """Return the mean over heads, then every head."""
    return [frame_of(weights.mean(0)), *map(frame_of, weights)]


def _highest(weights: Sequence[Tensor]) -> float:
    """Return where colours end: most weights are far below the 1 that the first token of a causal model gets."""
    found = torch.stack(list(weights)).flatten()
    return max(0.05, float(np.quantile(found[found > 0].numpy(), 0.98)))
