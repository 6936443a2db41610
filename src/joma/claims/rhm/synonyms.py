"""Claim rhm.synonyms: whether networks cease to distinguish synonyms where they have enough samples to learn it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from joma.charts import Chart, Mark
from joma.claims.hierarchy.levels import curve_of
from joma.claims.rhm.learning import HALF, Case, Crossing, Learned, Sizes, crossing, learned, numbers_of, why_censored
from joma.claims.workspace import Profile, Workspace
from joma.errors import RunFailed
from joma.measure.latents.synonyms import synonym_sensitivity
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.synonyms import exchange_synonyms
from joma.progress import part_of
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.threads import threads
from joma.train.decoder import seed_of
from joma.train.tree_networks import Schedule, TreeNetworks


@dataclass(frozen=True)
class Plan:
    """The laws to learn, and the number of samples that are exchanged."""

    cases: tuple[Case, ...]
    sizes: Sizes
    num_samples: int
    num_seeds: int


_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PLANS = {
    Profile.QUICK: Plan((Case(2, 3), Case(2, 4), Case(4, 3)), Sizes(_MULTIPLES, 256, 64, Schedule(1000)), 1000, 3),
    Profile.FULL: Plan(
        (Case(2, 3), Case(2, 4), Case(4, 3), Case(5, 3), Case(3, 4), Case(4, 4)),
        Sizes(_MULTIPLES, 256, 256, Schedule(10_000)),
        1000,
        10,
    ),
}
LAYER = 1
"""The layer whose units read two tuples of tokens, above the one that reads single ones."""

CRITERION = Criterion(
    "largest distance between the number of samples that halves the sensitivity to synonyms and the one that halves "
    "the error, over laws, octaves",
    "<=",
    1.0,
    "a factor of 2: networks are trained with numbers of samples that are a factor of 2 apart",
)


class Sensitive(NamedTuple):
    """Sensitivities of the networks of a case, of the layers from below, before training and after.

    Args:
        synonyms: to an exchange of the synonyms of every latent just above the tokens.
        others: to an exchange of the same tuples for those of other symbols.
        untrained: of networks with the same initial weights, to synonyms.
    """

    synonyms: Float[np.ndarray, "seeds numbers layers"]
    others: Float[np.ndarray, "seeds numbers layers"]
    untrained: Float[np.ndarray, "seeds numbers layers"]


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the numbers of samples that make a network insensitive to synonyms with those that make it right."""
    plan = PLANS[workspace.profile]
    seeds = workspace.seeds(plan.num_seeds)
    found, sensitive = [], []
    for place, case in enumerate(plan.cases):
        progress = part_of(workspace.progress, "learning curves", place, 1, len(plan.cases))
        found.append(learned(case, seeds, plan.sizes, progress))
        sensitive.append(_sensitive(found[-1], seeds, plan.num_samples))
    right = [_right(one) for one in found]
    insensitive, other = (
        [[_halved(one, row) for row in getattr(part, name)] for one, part in zip(found, sensitive, strict=True)]
        for name in ("synonyms", "others")
    )
    ratios, of_others = (numbers_of(part) / numbers_of(right) for part in (insensitive, other))
    measured = Estimate.of(np.abs(np.log2(ratios)).max(1), "octaves")
    control = Estimate.of(np.abs(np.log2(of_others)).max(1), "octaves")
    crossings = {
        f"{name}, {case}": row
        for name, part in (("error", right), ("sensitivity", insensitive))
        for case, row in zip(plan.cases, part, strict=True)
    }
    # a bound is never nearer to another number than the number itself, so that it can only count against the claim
    censored = "" if CRITERION.met_by(measured) is False else why_censored(crossings)
    return Agreement(
        CRITERION,
        measured,
        (Control("tuples of other symbols in place of synonyms", control),),
        conclusion=_conclusion(measured, sensitive, censored),
        findings=_findings(found, sensitive, ratios.T),
        charts=tuple(_chart(one, part) for one, part in zip(found, sensitive, strict=True)),
        notes=(
            f"Networks of patches, width {plan.sizes.width}, Adam for {plan.sizes.schedule.num_steps:,} steps; tuples "
            f"of two of {plan.cases[0].num_symbols} symbols, {plan.cases[0].num_classes} classes; sensitivity of layer "
            f"{LAYER} (of 0, 1, …), on {plan.num_samples:,} new samples; every tuple of tokens is exchanged. A "
            "sensitivity that is not halved counts with the largest number tried, a lower bound.",
        ),
        censored=censored,
    )


def _right(one: Learned) -> list[Crossing]:
    """Where the errors of each seed fall to a half."""
    return [crossing(one.numbers, row, HALF) for row in one.errors]


def _halved(one: Learned, sensitivities: Float[np.ndarray, "numbers layers"], layer: int = LAYER) -> Crossing:
    """Where the sensitivity of a layer falls to a half."""
    return crossing(one.numbers, sensitivities[:, layer], HALF)


@threads(1)
@torch.no_grad()
def _sensitive(one: Learned, seeds: Sequence[int], num: int) -> Sensitive:
    after = one.networks
    assert isinstance(after, TreeNetworks)
    count, width = len(one.numbers), after.config.num_layers
    before = TreeNetworks(after.config, [seed_of(seed, number) for seed in seeds for number in one.numbers])
    shape = (len(seeds), count, width)
    found = Sensitive(np.empty(shape), np.empty(shape), np.empty(shape))
    drawn = [_exchanged(law, num, seed) for law, seed in zip(one.laws, seeds, strict=True)]
    for table, networks, twin in (
        (found.synonyms, after, 1),
        (found.others, after, 2),
        (found.untrained, before, 1),
    ):
        original, other = (
            networks.hidden(torch.stack([part[which] for part in drawn]).repeat_interleave(count, 0))
            for which in (0, twin)
        )
        for layer in range(width):
            for network in range(len(seeds) * count):
                value = synonym_sensitivity(original[layer][network], other[layer][network])
                if value is None:
                    remedy = "take wider networks, or a smaller learning rate"
                    raise RunFailed("a layer has no active units", kept="nothing", remedy=remedy)
                table[network // count, network % count, layer] = value
    return found


def _exchanged(law: RandomHierarchy, num: int, seed: int) -> tuple[Int[Tensor, "N L"], ...]:
    """Samples, the same with synonyms exchanged, and with tuples of other symbols instead."""
    generator = torch.Generator().manual_seed(seed_of(seed, "synonyms"))
    samples = law.sample(num, generator)
    synonyms = exchange_synonyms(law, samples, 0, generator).tokens
    step = torch.randint(1, law.num_symbols, samples.symbols[0].shape, generator=generator)
    symbols = (samples.symbols[0] + step) % law.num_symbols
    rule = torch.randint(law.num_synonyms, symbols.shape, generator=generator)
    return samples.tokens, synonyms, law.rules[0][symbols, rule].flatten(1)


def _findings(
    found: Sequence[Learned], sensitive: Sequence[Sensitive], ratios: Float[np.ndarray, "cases seeds"]
) -> tuple[Finding, ...]:
    rows = []
    for one, part, ratio in zip(found, sensitive, ratios, strict=True):
        rows.append(
            Finding(f"{one.case}: samples that halve the sensitivity / that halve the error", Estimate.of(ratio))
        )
        last_layer, right = numbers_of([[_halved(one, row, -1) for row in part.synonyms], _right(one)]).T
        rows.append(Finding(f"{one.case}: the same of the last hidden layer", Estimate.of(last_layer / right)))
        least, most = (f"{number:,} samples" for number in (one.numbers[0], one.numbers[-1]))
        for layer in range(part.synonyms.shape[-1]):
            last = part.synonyms[:, -1, layer]
            comment = f"with {most}; {part.synonyms[:, 0, layer].mean():.2f} with {least}, "
            comment += f"{part.untrained[:, -1, layer].mean():.2f} untrained, "
            comment += f"{part.others[:, -1, layer].mean():.2f} to other symbols"
            rows.append(Finding(f"{one.case}: sensitivity of layer {layer} to synonyms", Estimate.of(last), comment))
    return tuple(rows)


def _conclusion(measured: Estimate, sensitive: Sequence[Sensitive], censored: str) -> str:
    few, many, other, untrained = (
        float(np.mean([getattr(part, name)[:, place, LAYER].mean() for part in sensitive]))
        for name, place in (("synonyms", 0), ("synonyms", -1), ("others", -1), ("untrained", -1))
    )
    figures = (
        f"With {_MULTIPLES[0]:g} n_c mᴸ samples an exchange of synonyms changes the representation {few:.0%} as much "
        f"as another sample would, with {_MULTIPLES[-1]:g} n_c mᴸ {many:.0%} (without training {untrained:.0%}); "
        f"tuples of other symbols change it by {other:.0%}. "
    )
    met = None if censored else CRITERION.met_by(measured)
    if met:
        return figures + "Synonyms become the same where the error falls."
    if met is None:
        return figures + "Whether that happens where the error falls is not decided."
    return figures + f"It does not happen where the error falls: the two are up to {2**measured.mean:.2g}-fold apart."


def _chart(one: Learned, part: Sensitive) -> Chart:
    x = np.array(one.numbers) / one.case.scale
    return Chart(
        f"m{one.case.num_synonyms}_l{one.case.depth}",
        f"Error and sensitivity to synonyms, {one.case}",
        f"Sensitivity of layer {LAYER}: 0 where an exchange changes nothing, 1 where it changes as much as another "
        "sample. Mean, lowest and highest seed.",
        "training samples / (n_c mᴸ)",
        "error / that of guessing; sensitivity",
        (
            curve_of("sensitivity to synonyms", x, part.synonyms[..., LAYER], role="measured", group="synonyms"),
            curve_of("last layer, to synonyms", x, part.synonyms[..., -1], role="measured", group="last layer"),
            curve_of("error", x, one.errors, role="measured", group="error"),
            curve_of("to tuples of other symbols", x, part.others[..., LAYER], role="control", group="others"),
            curve_of("untrained, to synonyms", x, part.untrained[..., LAYER], role="context", group="untrained"),
        ),
        (Mark("y", HALF, "half"),),
        x_scale="log",
    )
