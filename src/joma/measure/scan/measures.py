"""What a scan can measure in a saved step, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from joma.errors import BadInput

Kind = Literal["attention", "weights", "loss"]
"""What it is read off: attention of the model on a text, weights alone, or the model's predictions."""


@dataclass(frozen=True)
class Measure:
    """One kind of number.

    Args:
        name: with its unit where there is one.
        kind: what it is read off.
        meaning: in a few words, as an axis says it.
    """

    name: str
    kind: Kind
    meaning: str


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            Measure("attention_entropy_nats", "attention", "attention entropy (nats)"),
            Measure("attention_entropy_normalized", "attention", "attention entropy (1: uniform over visible keys)"),
            Measure("attention_sum_of_squares", "attention", "sum of squared attention weights (1/effective keys)"),
            Measure("first_token_share", "attention", "share of attention on the first token"),
            Measure("attention_entropy_without_first_nats", "attention", "attention entropy without token 1 (nats)"),
            Measure("stable_rank", "weights", "stable rank"),
            Measure("spectral_norm", "weights", "largest singular value"),
            Measure("effective_rank", "weights", "effective rank"),
            Measure("loss_nats", "loss", "loss (nats per token)"),
        )
    }
)
"""All of them, in the order in which they are written."""

DEFAULT = "attention,stable_rank"
"""What is measured where nobody says."""

_KINDS: tuple[Kind, ...] = ("attention", "weights", "loss")


def choose_measures(names: Sequence[str]) -> tuple[str, ...]:
    """Look measures up by name or by kind (``attention``, ``weights``, ``loss``, ``all``), each once, in their order.

    Raises:
        BadInput: an unknown name, with the nearest that is known.
    """
    chosen: set[str] = set()
    for name in names:
        found = {measure.name for measure in MEASURES.values() if name in (measure.name, measure.kind, "all")}
        if not found:
            known = [*MEASURES, *_KINDS, "all"]
            near = get_close_matches(name.lower(), known, n=1, cutoff=0.3)
            raise BadInput(
                f"there is no measure {name!r}",
                expected=f"some of {', '.join(known)}",
                remedy=f"did you mean {near[0]!r}?" if near else "name one of these",
            )
        chosen |= found
    if not chosen:
        raise BadInput("no measure is named", expected=f"some of {', '.join(MEASURES)}", remedy=f"name {DEFAULT}")
    return tuple(name for name in MEASURES if name in chosen)


def kinds_of(measures: Sequence[str]) -> set[Kind]:
    """What the measures named are read off."""
    return {MEASURES[name].kind for name in measures}
