"""How well hidden units represent latents, compared with chance.

The alignment of a unit with a latent is their correlation over samples (zero-mean, signed). Among thousands of units
some correlate with any latent by chance, so there are three scores, each with the score of permuted latents:

    best        each latent's best unit, chosen on one half of the samples and scored on the other; averaged over both
                ways to use the halves (two folds)
    one_to_one  as best, but no unit may represent two latents: in each fold, the assignment with the largest sum of
                correlations
    in_sample   each latent's best unit, chosen and scored on the same samples, as in the paper (theory, section 5b)

Axes: N samples, K units, B sequences, L positions; n latents, G groups of samples that share an input, R permutations
of the latents over the groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from joma.arrays import REAL, as_tensor, on_one_device
from joma.domains import check_seed, check_whole
from joma.errors import InvalidArgument
from joma.measure.latents.matching import Columns, Scores, Study, prepared, random_half, scored, standardised
from joma.progress import Progress, silent

_TIE = 1e-9  # a permutation that restores the original order must count as reaching its score despite rounding
_MOST_PERMUTATIONS = 100_000  # p-values down to 1e-5
_BLOCK = 2**21  # correlations held at a time (16 MB), so that memory does not grow with the number of permutations


@dataclass(frozen=True)
class Match:
    """One latent and the units chosen for it.

    Args:
        score: correlation in [-1, 1]; ``None`` if undefined.
        units: the chosen unit, one per fold (two for held-out scores, one for ``in_sample``); empty without a score.
        chance: mean score of this latent under permutation.
        reason: why there is no score.
    """

    score: float | None
    units: tuple[int, ...] = ()
    chance: float | None = None
    reason: str = ""

    @property
    def corrected(self) -> float | None:
        """(score − chance) / (1 − chance): 0 is chance level, 1 is perfect; ``None`` if undefined."""
        if self.score is None or self.chance is None or self.chance >= 1:
            return None
        return (self.score - self.chance) / (1 - self.chance)


@dataclass(frozen=True)
class Matching:
    """One of the three scores for all latents.

    Args:
        mean: mean score over the latents that have one.
        chance: mean of ``mean`` over permutations, each of which repeats choice and scoring.
        corrected: (mean − chance) / (1 − chance): 0 is chance level, 1 is perfect.
        p_value: (1 + number of permutations that reach ``mean``) / (1 + number of permutations).
        latents: one match per latent.
        num_without: number of latents without a score, which are left out.
        reason: why one of the four numbers is ``None``.
    """

    mean: float | None
    chance: float | None
    corrected: float | None
    p_value: float | None
    latents: tuple[Match, ...]
    num_without: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Alignment:
    """How well the units of one layer represent the latents of one level.

    Args:
        best, one_to_one, in_sample: the three scores (see the module).
        num_samples, num_units: N and K.
        num_constant_units: number of constant units, which cannot be chosen.
        num_groups: number of groups; ``None`` without groups.
        num_permutations, seed: of the permutation test.
    """

    best: Matching
    one_to_one: Matching
    in_sample: Matching
    num_samples: int
    num_units: int
    num_constant_units: int
    num_groups: int | None
    num_permutations: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


def max_pooled(activations: Float[Tensor, "B L K"], kept: Bool[Tensor, "B L"] | None = None) -> Float[Tensor, "B K"]:
    """Return each unit's largest activation over the positions of a sequence.

    Args:
        activations: (B, L, K).
        kept: (B, L), True for positions that count, such as all except padding; all by default.

    Raises:
        InvalidArgument: a sequence without a position that counts, or a largest activation that is not finite.
    """
    if activations.dim() != 3 or not activations.is_floating_point() or not activations.shape[1]:
        raise InvalidArgument(
            "max_pooled",
            "activations",
            required="real numbers of shape (sequences, positions, units), with at least one position",
            received=_described(activations),
            remedy="pass the output of the layer, without pooling",
        )
    if kept is not None:
        if kept.dtype != torch.bool or kept.shape != activations.shape[:2] or not kept.any(-1).all():
            raise InvalidArgument(
                "max_pooled",
                "kept",
                required=f"bool of shape {tuple(activations.shape[:2])} with a True in every row",
                received=_described(kept),
                remedy="mark the positions that count with True and leave out empty sequences",
            )
        activations = activations.masked_fill(~kept[..., None], -torch.inf)
    pooled = activations.detach().amax(dim=1)
    _require_finite(pooled, "max_pooled", "activations")
    return pooled


def correlations(units: Float[Tensor, "N K"], latents: Tensor) -> Float[Tensor, "K n"]:
    """Return the correlation of every unit with every latent over samples, in float64.

    Args:
        units: (N, K) activations of any floating dtype.
        latents: (N, n) bool or real.

    Returns:
        (K, n) in [-1, 1]; NaN exactly if the unit or the latent is constant, that is, if its range is at most four
        rounding errors (in its dtype) of its largest absolute value.

    Source: theory, section 5b.
    """
    columns, wanted = _read_both("correlations", units, latents)
    ones = columns.values.new_ones(len(columns.values))
    left, right = (standardised(part.values.T, ones, part.rounding) for part in (columns, wanted))
    found = (left.values @ right.values.T).clamp_(-1, 1)
    return found.masked_fill_(~(left.varies[:, None] & right.varies), torch.nan)


def alignment(
    units: Float[Tensor, "N K"],
    latents: Tensor,
    *,
    num_permutations: int = 200,
    seed: int = 0,
    groups: Int[Tensor, " N"] | None = None,
) -> Alignment:
    """Return how well units represent each latent, by three scores that are compared with chance.

    Args:
        units: (N, K) activations of any floating dtype, such as ``max_pooled`` returns.
        latents: (N, n) bool or real.
        num_permutations: for the chance level; the smallest p-value is 1 / (1 + num_permutations).
        seed: of halves and permutations, which are the same on every device.
        groups: (N,) integers, equal for samples that share one input, if there are few inputs. The latents of whole
            groups are then permuted, so that chance includes the agreement that a table of few inputs gives. Without
            groups, samples are permuted.

    Returns:
        The three scores with their chance levels. Constant units are never chosen; held-out scores also leave out units
        and latents that are constant in one half.

    Valid for samples (with groups: inputs) that are exchangeable. With groups, both halves contain all inputs, because
    each group is split evenly: held-out scores are then close to ``in_sample``, and only the permutations show what is
    chance. One-to-one needs as many varying units as latents. Source: theory, section 5b.
    """
    columns, wanted = _read_both("alignment", units, latents)
    num_samples, num_units = columns.values.shape
    check_seed(seed, "alignment")
    _require_enough(num_samples, num_permutations)
    member, table = _grouped(wanted.values, groups)
    generator = torch.Generator().manual_seed(seed)
    study = prepared(columns, wanted.rounding, member, random_half(member.cpu(), generator).to(member.device))
    orders = torch.rand(num_permutations, len(table), generator=generator, dtype=REAL).argsort(-1).to(member.device)
    found = scored(study, table.T[:, None])
    size = max(1, _BLOCK // (num_units * table.shape[1]))
    chunks = [scored(study, table.T[:, chunk]) for chunk in orders.split(size)]
    shuffled = {way: torch.cat([chunk[way].scores for chunk in chunks], dim=1) for way in found}
    matchings = {way: _matching(found[way], shuffled[way], _reasons(study, table, way)) for way in found}
    return Alignment(
        **matchings,
        num_samples=num_samples,
        num_units=num_units,
        num_constant_units=num_units - len(study.columns),
        num_groups=None if groups is None else len(table),
        num_permutations=num_permutations,
        seed=seed,
    )


def alignment_matrix(
    layers: Sequence[Tensor],
    levels: Sequence[Tensor],
    *,
    num_permutations: int = 200,
    seed: int = 0,
    groups: Int[Tensor, " N"] | None = None,
    progress: Progress = silent,
) -> list[list[Alignment]]:
    """Return the alignment of every layer with every level of latents, all with the same halves and permutations.

    Args:
        layers: per layer (N, K_s) activations.
        levels: per level (N, n_t) latents.
        num_permutations, seed, groups: as in ``alignment``.
        progress: called with the number of finished pairs of a layer and a level.

    Returns:
        One row per layer, with one alignment per level.
    """
    for parameter, parts in (("layers", layers), ("levels", levels)):
        if not len(parts):
            required, remedy = "at least one tensor", "pass one tensor of shape (samples, ...) for each"
            raise InvalidArgument("alignment_matrix", parameter, required=required, received="empty", remedy=remedy)
    found = []
    for place, (units, latents) in enumerate(itertools.product(layers, levels)):
        progress("alignment", place, len(layers) * len(levels))
        found.append(alignment(units, latents, num_permutations=num_permutations, seed=seed, groups=groups))
    return [found[first : first + len(levels)] for first in range(0, len(found), len(levels))]


def _matching(found: Scores, shuffled: Float[Tensor, "n R"], reasons: list[str]) -> Matching:
    scores, units = found.scores[:, 0].cpu(), found.units[:, 0].cpu()
    matches = tuple(
        Match(None, reason=reason)
        if score.isnan()
        else Match(float(score), tuple(chosen.tolist()), _number(chance.nanmean()))
        for score, chosen, chance, reason in zip(scores, units, shuffled.cpu(), reasons, strict=True)
    )
    without = [match.reason for match in matches if match.score is None]
    mean = _number(scores.nanmean())
    if mean is None:
        reason = without[0] if len(set(without)) == 1 else "no latent has a correlation with a unit"
        return Matching(None, None, None, None, matches, len(without), reason)
    permuted = shuffled.nanmean(0)
    chance = _number(permuted.nanmean())
    reached = int((~(permuted < mean - _TIE)).sum())  # a permutation without a score counts as reaching the mean
    p_value = (1 + reached) / (1 + len(permuted))
    if chance is None or chance > 1 - _TIE:
        reason = "no permutation has a score" if chance is None else "the chance level is 1"
        return Matching(mean, chance, None, p_value, matches, len(without), reason)
    return Matching(mean, chance, (mean - chance) / (1 - chance), p_value, matches, len(without))


def _reasons(study: Study, table: Tensor, way: str) -> list[str]:
    """Return for each latent the reason that holds if it has no score."""
    if not len(study.columns):
        return ["every unit is constant"] * table.shape[1]
    if way != "in_sample" and not study.num_usable:
        return ["every unit is constant in one half of the samples"] * table.shape[1]
    whole = standardised(table.T.clone(), study.counts, study.rounding).varies
    parts = [standardised(table.T[:, half.rows], half.counts, study.rounding).varies for half in study.halves]
    halved = parts[0] & parts[1]
    too_many = f"fewer units vary ({study.num_usable}) than latents ({int(halved.sum())})"
    return [
        "the latent is constant" if not varies else too_many if both else "the latent is constant in one half"
        for varies, both in zip(whole.tolist(), halved.tolist(), strict=True)
    ]


def _grouped(latents: Float[Tensor, "N n"], groups: Tensor | None) -> tuple[Int[Tensor, " N"], Float[Tensor, "G n"]]:
    """Return the group of each sample, numbered from 0, and the latents of each group."""
    num_samples = len(latents)
    if groups is None:
        return torch.arange(num_samples, device=latents.device), latents
    groups = as_tensor(groups, "alignment", "groups")
    integral = not (groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool)
    num_groups = int(groups.unique().numel()) if integral and groups.shape == (num_samples,) else 0
    if num_groups < 2:
        raise InvalidArgument(
            "alignment",
            "groups",
            required=f"integers of shape ({num_samples},) that name at least two groups",
            received=_described(groups) + (" that name one group" if num_groups else ""),
            remedy="pass one integer per sample, equal for equal inputs",
        )
    member = groups.to(latents.device).unique(return_inverse=True)[1]
    table = latents.new_zeros(num_groups, latents.shape[1])
    table[member] = latents
    differing = (latents != table[member]).any(-1)
    if differing.any():
        place = int(differing.nonzero()[0, 0])
        raise InvalidArgument(
            "alignment",
            "groups",
            required="groups within which every latent is constant",
            received=f"a group with different latents (group {int(groups[place])}, sample {place})",
            remedy="group by input only if the input determines the latents, or leave groups out",
        )
    return member, table


def _read_both(function: str, units: Tensor, latents: Tensor) -> tuple[Columns, Columns]:
    units, latents = as_tensor(units, function, "units"), as_tensor(latents, function, "latents")
    units, latents = on_one_device(units.detach(), latents.detach())
    for parameter, tensor in (("units", units), ("latents", latents)):
        bool_serves = parameter == "latents"
        boolean = bool_serves and tensor.dtype == torch.bool
        if tensor.dim() != 2 or not tensor.numel() or not (tensor.is_floating_point() or boolean):
            raise InvalidArgument(
                function,
                parameter,
                required=f"{'bool or ' * bool_serves}floating point, not empty, of shape (samples, {parameter})",
                received=_described(tensor),
                remedy="pass .bool() or .double() of integers; pool positions away with max_pooled",
            )
        _require_finite(tensor, function, parameter)
    if len(units) != len(latents):
        required, received = f"of as many samples as the units ({len(units)})", f"of {len(latents)} samples"
        remedy = "pass activations and latents of the same samples, in the same order"
        raise InvalidArgument(function, "latents", required=required, received=received, remedy=remedy)
    return _read(units), _read(latents)


def _read(tensor: Tensor) -> Columns:
    rounding = torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0
    values = tensor.to(REAL, copy=True)
    peak = torch.linalg.vector_norm(values, ord=torch.inf, dim=0)
    return Columns(values.div_(peak.where(peak > 0, 1)), rounding)


def _require_enough(num_samples: int, num_permutations: int) -> None:
    if num_samples < 4:
        required = "at least 4 samples, two to choose units and two to score them"
        received, remedy = f"of {num_samples} samples", "measure on more samples"
        raise InvalidArgument("alignment", "units", required=required, received=received, remedy=remedy)
    remedy = "pass 200, for p-values down to 0.005"
    check_whole(num_permutations, "alignment", "num_permutations", high=_MOST_PERMUTATIONS, remedy=remedy)


def _require_finite(tensor: Tensor, function: str, parameter: str) -> None:
    if tensor.element_size() == 1:  # torch has no isfinite for eight bits
        tensor = tensor.float()
    if num_bad := tensor.numel() - int(tensor.isfinite().sum()):
        received = f"NaN or infinite in {num_bad} of {tensor.numel()} entries"
        remedy = "check whether the network diverged, or measure an earlier step"
        raise InvalidArgument(function, parameter, required="finite numbers", received=received, remedy=remedy)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _number(value: Tensor) -> float | None:
    return None if value.isnan() else float(value)
