"""The exact solution of the theory's dynamics: what ``joma solve`` and ``joma.solve`` do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import pandas

from joma.arrays import Real, as_real
from joma.domains import POSITIVE, choose
from joma.errors import InvalidArgument
from joma.report.solution import conclusion, solution_charts
from joma.studies.result import Result
from joma.theory import dynamics

if TYPE_CHECKING:
    from joma.charts import Chart

ATTENTION: dict[str, Literal["softmax", "exp"]] = {"softmax": "softmax", "exp": "exp"}


class Solution(dynamics.Solution, Result):
    """What the dynamics do at some times; ``v`` and ``entropy`` are tensors, ``frame()`` a table of both."""

    def frame(self) -> pandas.DataFrame:
        """One row for each time and component: t, component, target (μ or Δ), v, attention, entropy_nats."""
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
        """One row: whether attention gets sparse and then dense, and when and how sparse it is at its sparsest."""
        found = self.sparsest
        if found is None:
            return pandas.DataFrame([{"verdict": "only gets sparser"}])
        verdict = (
            "sparse, then dense" if found.is_inner else "only gets denser" if found.time == 0 else "only gets sparser"
        )
        return pandas.DataFrame([{"verdict": verdict, "sparsest_at": found.time, "entropy_nats": found.entropy}])

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
    >>> found = joma.solve([0, 4, 8, 16], mu=[3, 2, 1, 0.5])
    >>> found.entropy
    tensor([1.3863, 0.5072, 0.2325, 0.2429], dtype=torch.float64)
    >>> found.verdicts()["verdict"][0]
    'sparse, then dense'

    Args:
        t: times, increasing from 0 or later.
        mu: (M,) targets μ of the components of a nonlinear MLP.
        delta: (M,) speeds Δ of the components of a linear MLP, in place of ``mu``.
        v0: where components start: one number, or one for each.
        gain: α of the exponent α v², above 0; attention at temperature T has α = 1/(2T²).
        attention: ``softmax`` shares one attention between the components, ``exp`` does not normalise.

    Raises:
        InvalidArgument: neither or both of ``mu`` and ``delta``, times out of order, or numbers that leave float64.

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
    rates = as_real([] if given is None else given, "solve", name).reshape(-1)
    times, start = as_real(t, "solve", "t").reshape(-1), as_real(v0, "solve", "v0").reshape(-1)
    if not len(rates) or not len(times) or len(start) not in (1, len(rates)):
        odd, what = (name, rates) if not len(rates) else ("t", times) if not len(times) else ("v0", start)
        count = "at least one number" if odd != "v0" else f"one number, or {len(rates)} as in `{name}`"
        raise InvalidArgument("solve", odd, required=count, received=f"{len(what)} numbers", remedy="give as many")
    if bool((times[:1] < 0).any()) or bool((times.diff() <= 0).any()):
        raise InvalidArgument(
            "solve",
            "t",
            required="times of at least 0 that increase",
            received=f"{[round(float(at), 6) for at in times[:4]]}",
            remedy="sort them, each once",
        )
    POSITIVE.check(gain, "solve", "gain")
    kind = choose(attention, ATTENTION, "solve", "attention")
    asked = dynamics.Dynamics(symbol, rates, start.expand(len(rates)), gain, kind)
    return Solution(**vars(dynamics.solve(asked, times)))
