"""The exact solution of the theory's dynamics: what ``joma solve`` and ``joma.solve`` do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from joma.arrays import Real, as_real, as_real_in, wrong_shape
from joma.domains import POSITIVE, choose
from joma.errors import InvalidArgument
from joma.report.solution import conclusion, solution_charts
from joma.studies.result import Result
from joma.theory import dynamics

if TYPE_CHECKING:
    import pandas

    from joma.charts import Chart

ATTENTION: dict[str, Literal["softmax", "exp"]] = {"softmax": "softmax", "exp": "exp"}

MOST_NUMBERS = 1_000_000
"""Components times times: about 1 GB."""

_LEAST_TIMES = 400  # of the course, which is computed at any times


class Solution(dynamics.Solution, Result):
    """What the dynamics do at some times; ``v`` and ``entropy`` are tensors, ``frame()`` a table of both."""

    def frame(self) -> pandas.DataFrame:
        """One row for each time and component: t, component, target (μ or Δ), v, attention, entropy_nats."""
        import pandas

        num_times, num = self.v.shape
        attention = (self.dynamics.gain * self.v.square()).softmax(-1)
        return pandas.DataFrame(
            {
                "t": self.times.repeat_interleave(num).numpy(),
                "component": list(range(num)) * num_times,
                "target": self.dynamics.rates.repeat(num_times).numpy(),
                "v": self.v.flatten().numpy(),
                "attention": attention.flatten().numpy(),
                "entropy_nats": self.entropy.repeat_interleave(num).numpy(),
            }
        )

    def verdicts(self) -> pandas.DataFrame:
        """One row: how attention goes over all time, and (μ) when and how sparse it is at its sparsest.

        The verdict is ``constant``, ``only gets sparser``, ``only gets denser``, or the turns of the entropy in words,
        such as ``sparse, then dense``.
        """
        import pandas

        row = {"verdict": self.dynamics.course}
        if self.sparsest is None:
            return pandas.DataFrame([row])
        return pandas.DataFrame([row | {"sparsest_at": self.sparsest.time, "entropy_nats": self.sparsest.entropy}])

    def pictures(self) -> Sequence[Chart]:
        """The components and the attention entropy over time."""
        return solution_charts(self)

    def summary(self) -> str:
        """What attention does, in words."""
        return conclusion(self)


def solve(
    t: Real,
    *,
    mu: Real | None = None,
    delta: Real | None = None,
    v0: Real = 0.0,
    gain: float = 0.5,
    attention: Literal["softmax", "exp"] = "softmax",
) -> Solution:
    """Solve the dynamics of the MLP, with attention integrated out, exactly.

    >>> import joma
    >>> found = joma.solve(range(0, 41, 2), mu=[3, 2, 1, 0.5])
    >>> found.entropy[[0, 4, 20]]
    tensor([1.3863, 0.2325, 0.3062], dtype=torch.float64)
    >>> found.verdicts()["verdict"][0]
    'sparse, then dense'
    >>> axes = found.plot()

    Args:
        t: times, increasing from 0 or later.
        mu: (M,) targets μ of the components of a nonlinear MLP.
        delta: (M,) speeds Δ of the components of a linear MLP, in place of ``mu``.
        v0: where components start: one number, or one for each.
        gain: α of the exponent α v², above 0; attention at temperature T has α = 1/(2T²).
        attention: ``softmax`` shares one attention between the components, ``exp`` does not normalise.

    Raises:
        InvalidArgument: neither or both of ``mu`` and ``delta``, arrays of more than one axis, times out of order, or
            numbers that leave float64 (of several targets, |μ| or |v0| above 36/√(2·gain)).

    Sources: Theorems 2 and 4 of arXiv 2310.00535; docs/theory.md, section 3.
    """
    if (mu is None) == (delta is None):
        raise InvalidArgument(
            "solve",
            "mu",
            required="one of the two",
            received=f"{'missing, and so is' if mu is None else 'given, and so is'} `delta`",
            remedy="give mu for a nonlinear MLP, delta for a linear one",
        )
    symbol, name, given = ("Δ", "delta", delta) if mu is None else ("μ", "mu", mu)
    rates, times, start = _numbers(name, given), _numbers("t", t), _numbers("v0", v0)
    if not len(rates) or not len(times) or len(start) not in (1, len(rates)):
        odd, what = (name, rates) if not len(rates) else ("t", times) if not len(times) else ("v0", start)
        count = "at least one number" if odd != "v0" else f"one number, or {len(rates)} as in `{name}`"
        raise InvalidArgument("solve", odd, required=count, received=f"{len(what)} numbers", remedy="give as many")
    if len(rates) * max(len(times), _LEAST_TIMES) > MOST_NUMBERS:
        most = MOST_NUMBERS // max(len(times), _LEAST_TIMES)
        required, remedy = f"at most {most:,} numbers for {len(times):,} times", "solve fewer, or at fewer times"
        raise InvalidArgument("solve", name, required=required, received=f"{len(rates):,}", remedy=remedy)
    if bool((times[:1] < 0).any()) or bool((times.diff() <= 0).any()):
        raise InvalidArgument(
            "solve",
            "t",
            required="times of at least 0 that increase",
            received=f"{[round(float(at), 6) for at in times[:4]]}",
            remedy="sort them, each once",
        )
    scale = as_real_in(POSITIVE, gain, "solve", "gain")
    if scale.ndim:
        raise wrong_shape("solve", "gain", "one number", scale, "call solve once per gain")
    kind = choose(attention, ATTENTION, "solve", "attention")
    asked = dynamics.Dynamics(symbol, rates, start.expand(len(rates)), float(scale), kind)
    try:
        found = dynamics.solve(asked, times)
        _ = asked.course  # kept there; what it refuses is refused here
    except InvalidArgument as error:
        raise InvalidArgument(
            "solve", error.parameter, required=error.expected, received=error.received, remedy=error.remedy
        ) from error
    return Solution(**vars(found))


def _numbers(name: str, value: Any) -> torch.Tensor:
    """Read one number or one axis of numbers, whole ones too, as a float64 tensor of one axis, without gradients."""
    is_whole = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    numbers = as_real(value.astype(float) if is_whole else value, "solve", name).detach()
    if numbers.ndim > 1:
        remedy = "call solve once for each row" if name != "t" else "pass times.ravel(), sorted"
        raise wrong_shape("solve", name, "one number or one axis of numbers", numbers, remedy)
    return numbers.reshape(-1)
