"""Pictures of one sentence's attention weights, as written and with its words shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from joma.charts import Heatmap
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_number
from joma.terminal import printable

if TYPE_CHECKING:
    import pandas
    from jaxtyping import Float
    from rich.table import Table
    from torch import Tensor

TITLES = ("As written", "The same words shuffled")


def entropies(weights: Float[Tensor, "2 layers heads L L"]) -> Float[Tensor, "2 layers"]:
    """Return the mean attention entropy over heads and tokens, in nats; a sink counts as one more key."""
    of_sink = (1 - weights.sum(-1)).clamp_min(0)
    return -(weights.xlogy(weights).sum(-1) + of_sink.xlogy(of_sink)).mean((2, 3))


def entropy_table(verdicts: pandas.DataFrame) -> Table:
    """Return the entropy of each step and layer, as written and shuffled, for a terminal."""
    table = table_of(("step", "layer", *(f"{title.lower()} (nats)" for title in TITLES)))
    wide = verdicts.pivot(index=["step", "layer"], columns="order", values="attention_entropy_nats")
    for step, layer, *values in wide.reset_index().itertuples(index=False):
        table.add_row(f"{step:,}", str(layer), *map(format_number, values))
    return table


def maps(
    weights: Float[Tensor, "2 layers heads L L"],
    tokens: Sequence[Sequence[str]],
    layer: int,
    head: int | None,
    step: int,
) -> list[Heatmap]:
    """Return two heatmaps of keys by queries: as written, and shuffled.

    Args:
        weights: of one step.
        tokens: of both orders.
        layer, head: which; the mean over heads where ``None``.
        step: of the weights.
    """
    of_layer = weights[:, layer].mean(1) if head is None else weights[:, layer, head]
    where = f"layer {layer}, {'mean over heads' if head is None else f'head {head}'}, step {step:,}"
    found = []
    for number, (title, names, values) in enumerate(zip(TITLES, tokens, of_layer, strict=True)):
        labels = [printable(name.strip()) or "␣" for name in names]
        grid = frame_of(values)
        found.append(
            Heatmap(
                f"sentence_layer{layer}_{'mean' if head is None else head}_{number}",
                title,
                f"Rows attend to columns ({where}).",
                "key",
                "query",
                labels,
                labels[::-1],
                grid,
                "attention weight",
            )
        )
    return found


def frame_of(values: Float[Tensor, "L L"]) -> list[list[float]]:
    """Return weights of queries by keys as a heatmap's rows from the bottom up, to three digits."""
    return [[round(value, 3) for value in row] for row in values.flip(0).tolist()]
