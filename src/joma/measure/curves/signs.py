"""Signs of a fault in a curve over training: attention collapsed, large logits, a sink that takes everything.

Remarks on a finished run and alarms during training use the same signs. A sign must last: one probe is not enough, and
a sign is over when a probe is without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from joma.measure.curves.quantities import ENTROPY

COLLAPSED = 0.05
"""Share of its highest level below which attention entropy has collapsed."""

LARGE_LOGIT = 50.0
"""Largest attention logit from which softmax is close to one-hot, and products in half precision become inexact."""

WHOLE = 0.95
"""Mean share of attention on the first token from which a sink takes everything."""

_FEWEST = 2  # probes that a sign must last


def short(value: float) -> str:
    """Return a number with three significant digits, and with separators in place of a power of ten: 167,000."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1e3 <= abs(rounded) < 1e9 else f"{rounded:.3g}"


def lasting_from(has_sign: Bool[np.ndarray, " steps"]) -> int | None:
    """Return the index from which on all are true, if these are two or more."""
    without = np.flatnonzero(~has_sign)
    first = int(without[-1]) + 1 if len(without) else 0
    return None if first > len(has_sign) - _FEWEST else first


def _collapse(curve: Float[np.ndarray, " steps"]) -> int | None:
    return lasting_from(curve < COLLAPSED * curve.max())


def _large_logits(curve: Float[np.ndarray, " steps"]) -> int | None:
    return lasting_from(curve > LARGE_LOGIT) if curve[-1] > 2 * abs(curve[0]) else None


def _whole_sink(curve: Float[np.ndarray, " steps"]) -> int | None:
    return lasting_from(curve > WHOLE)


class Sign(NamedTuple):
    """A sign of a fault in the curve of one layer: the mean of a metric over its heads.

    Args:
        metric: of the curve.
        since: returns the index of the probe since which a curve has the sign now; ``None`` if it does not have it.
        meaning: in words, after "layer 3".
        remedy: what to try.
    """

    metric: str
    since: Callable[[Float[np.ndarray, " steps"]], int | None]
    meaning: str
    remedy: str


SIGNS: Mapping[str, Sign] = {
    "collapse": Sign(
        ENTROPY,
        _collapse,
        f"attention collapsed: its entropy is below {COLLAPSED:.0%} of its highest level",
        "lower the learning rate, warm up longer, or normalise queries and keys",
    ),
    "logits": Sign(
        "attention_max_logit",
        _large_logits,
        f"the largest attention logits (mean over heads) grew above {LARGE_LOGIT:g}",
        "normalise queries and keys, or lower the learning rate",
    ),
    "sinks": Sign(
        "attention_first_token_share",
        _whole_sink,
        f"the first token gets more than {WHOLE:.0%} of attention",
        "lower the learning rate, or give each head a sink logit of its own",
    ),
}
"""The signs by the rule of ``remarks`` that uses them."""
