"""The alignment of hidden units with latents: ``joma.alignment``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas

from joma.arrays import as_tensor
from joma.charts import Chart, Curve
from joma.measure.latents import alignment as measured
from joma.report.drawing.words import format_number
from joma.studies.result import Result

if TYPE_CHECKING:
    from joma.measure.latents.alignment import Matching

_WAYS = {
    "best": "the best unit of each latent, chosen and scored on different samples",
    "one_to_one": "one-to-one matching, chosen and scored on different samples",
    "in_sample": "the best unit of each latent, chosen and scored on the same samples",
}
SIGNIFICANT = 0.05


class Alignment(measured.Alignment, Result):
    """The alignment of units with latents: ``frame()`` has a score for each latent, ``verdicts()`` the means."""

    def frame(self) -> pandas.DataFrame:
        """Return one row per latent and way of choosing: way, latent, score, chance, corrected, units, reason."""
        rows = [
            {"way": way, "latent": latent, "score": match.score, "chance": match.chance, "corrected": match.corrected}
            | {"units": match.units, "reason": match.reason or None}
            for way in _WAYS
            for latent, match in enumerate(self._matching(way).latents)
        ]
        return pandas.DataFrame(rows)

    def verdicts(self) -> pandas.DataFrame:
        """Return one row per way of choosing: mean score, chance, p-value, and whether it is better than chance."""
        rows = []
        for way in _WAYS:
            found = self._matching(way)
            verdict = found.reason
            if found.p_value is not None:
                verdict = "better than chance" if found.p_value <= SIGNIFICANT else "not measurably better than chance"
            numbers = {name: getattr(found, name) for name in ("mean", "chance", "corrected", "p_value")}
            rows.append({"way": way, "verdict": verdict} | numbers)
        return pandas.DataFrame(rows)

    def pictures(self) -> Sequence[Chart]:
        """Return charts of the scores of the latents, the best first, with their chance levels."""
        return [chart for way in _WAYS if (chart := _chart(way, self._matching(way))) is not None]

    def summary(self) -> str:
        """Return the held-out scores in a sentence."""
        found, num = self.best, len(self.best.latents)
        size = f"{self.num_units} units, {num} latent{'' if num == 1 else 's'}, {self.num_samples} samples"
        if found.mean is None or found.chance is None:
            return f"{size}; no score: {found.reason}"
        mean, chance = format_number(found.mean), format_number(found.chance)
        return f"{size}; mean correlation of best units {mean}, by chance {chance}"

    def _matching(self, way: str) -> Matching:
        return getattr(self, way)


def _chart(way: str, found: Matching) -> Chart | None:
    scored = sorted(((match.score, match.chance) for match in found.latents if match.score is not None), reverse=True)
    if not scored:
        return None
    ranks = tuple(float(rank) for rank in range(1, len(scored) + 1))
    scores, chances = zip(*scored, strict=True)
    return Chart(
        way,
        f"Alignment of units with latents: {_WAYS[way]}",
        "One point per latent, the best first. By chance: the same latents shuffled across samples.",
        "latents, the best first",
        "correlation",
        (Curve("found", ranks, scores), Curve("by chance", ranks, tuple(c or 0.0 for c in chances), role="control")),
    )


def alignment(units: Any, latents: Any, *, num_permutations: int = 200, seed: int = 0, groups: Any = None) -> Alignment:
    """Find the hidden unit that corresponds to each latent, and compare its correlation with chance.

    >>> import numpy as np, joma
    >>> latents = np.random.default_rng(0).normal(size=(400, 3))
    >>> units = np.concatenate([latents[:, :2], np.random.default_rng(1).normal(size=(400, 9))], axis=1)
    >>> found = joma.alignment(units, latents)
    >>> found.frame().query("way == 'best'")["units"].tolist()[:2]  # the same unit in both halves of the samples
    [(0, 0), (1, 1)]
    >>> axes = found.plot()

    Args:
        units: (N, K) activations of K units on N samples, as an array or a tensor.
        latents: (N, n), or (N,) for one latent, bool or real.
        num_permutations: of the permutation test; the smallest p-value is 1 / (1 + num_permutations).
        seed: of halves and permutations; the same seed gives the same ones on every device.
        groups: (N,) integers, equal for samples with the same input, if there are few inputs. Permutations then
            exchange the latents of whole groups.

    Returns:
        Three scores with chance levels: ``best`` and ``one_to_one`` on held-out samples, ``in_sample`` as in the paper.

    Raises:
        InvalidArgument: inconsistent shapes, too few samples, NaN.

    Source: derived, docs/theory.md, section 5b.
    """
    values = as_tensor(latents, "alignment", "latents")
    values = values[:, None] if values.dim() == 1 else values
    test: dict[str, Any] = {"num_permutations": num_permutations, "seed": seed, "groups": groups}
    return Alignment(**vars(measured.alignment(units, values, **test)))
