"""Claim image.parts: whether units find the parts that make the label, and not the other parts of the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from joma.charts import Chart, Curve
from joma.claims.image.networks import notes, pictures_with_parts, trained
from joma.claims.workspace import Workspace
from joma.errors import BadInput, RunFailed
from joma.measure.curves.course import Course
from joma.measure.latents.detection import Detection, detection, within_classes
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.train.courses import course_of
from joma.train.decoder import Decoder
from joma.train.hidden import pooled_hidden
from joma.train.images.parts import FEWEST_WITH
from joma.train.images.pictures import Kind, Pictures, as_input
from joma.train.latents import untrained
from joma.train.run import Run

KINDS: dict[Kind, str] = {
    "label": "parts that make the label",
    "elsewhere": "the same parts elsewhere",
    "other": "parts that make no label",
}
TRAINED, UNTRAINED, PERMUTED = "trained", "untrained", "trained on permuted labels"

CRITERION = Criterion(
    "gain in the AUC of the best unit of a part that makes the label, as a share of the untrained network's distance "
    "from 1; mean over parts",
    ">=",
    0.2,
    "as in hierarchy.alignment: below a fifth, more than four fifths of what was missing before training is still "
    "missing after it",
)


_NO_DISTANCE = 1e-9


@dataclass(frozen=True)
class Seed:
    """What was measured with one seed.

    Args:
        areas: the AUC of the best unit of each part, by network; of the best pixel under ``pixels``, and with parts
            shuffled under ``shuffled`` and ``shuffled, untrained``; NaN where no unseen subject has a part.
        by_layer: the same with units of one layer only, by network, (layers, P).
        layers: the layer of the unit that was chosen for each part, by network.
        within: the AUC among the subjects of classes that show a part in some subjects only, by network.
    """

    areas: dict[str, Float[np.ndarray, " P"]]
    by_layer: dict[str, Float[np.ndarray, "layers P"]]
    layers: dict[str, Int[np.ndarray, " P"]]
    within: dict[str, Float[np.ndarray, " P"]]


def evaluate(workspace: Workspace) -> Agreement:
    """Choose the best unit of each part on the subjects seen in training, and score it on the others."""
    pictures = pictures_with_parts(workspace)
    kinds = np.array([part.kind for part in pictures.parts])
    if "label" not in kinds:
        problem = f"{pictures.name} has no part that makes a label often enough"
        expected = f"a part that {FEWEST_WITH} subjects or more have, and as many lack"
        raise BadInput(problem, expected=expected, remedy="add images with the same parts")
    [[runs, permuted]] = trained(workspace, [pictures], ["full network", "permuted labels"])
    seeds = []
    for done, pair in enumerate(zip(runs, permuted, strict=True)):
        workspace.progress("looking for parts in units", done, len(runs))
        seeds.append(_measured(pictures, *pair))
    of_label = kinds == "label"
    gains = (_gain(seed.areas[TRAINED], seed.areas[UNTRAINED], of_label) for seed in seeds)
    measured = Estimate.of(gains, why_equal="0 where training changes no score")
    shuffled = [_gain(seed.areas["shuffled"], seed.areas["shuffled, untrained"], of_label) for seed in seeds]
    on_permuted = [_gain(seed.areas[PERMUTED], seed.areas[UNTRAINED], of_label) for seed in seeds]
    controls = [
        Control("parts shuffled across subjects", Estimate.of(shuffled)),
        Control(PERMUTED, Estimate.of(on_permuted)),
    ]
    if "other" in kinds:
        others = [_gain(seed.areas[TRAINED], seed.areas[UNTRAINED], kinds == "other") for seed in seeds]
        controls.insert(0, Control(KINDS["other"], Estimate.of(others)))
    agreement = Agreement(
        CRITERION,
        measured,
        tuple(controls),
        conclusion="",
        findings=tuple(_findings(pictures, seeds, kinds, course_of(runs, "val_accuracy", None))),
        charts=(_layers_chart(seeds, kinds), _parts_chart(pictures, seeds, kinds)),
        notes=(*notes(workspace, [pictures]), *_notes(kinds)),
    )
    return replace(agreement, conclusion=_conclusion(agreement, seeds, kinds))


def _measured(pictures: Pictures, run: Run, permuted: Run) -> Seed:
    """Detect every part in the units of three networks, in single pixels, and with parts shuffled."""
    seen, unseen = pictures.split(run.recipe.seed)
    presence = pictures.presence[seen], pictures.presence[unseen]
    networks = {TRAINED: run.decoder(), UNTRAINED: untrained(run), PERMUTED: permuted.decoder()}
    units = {name: [_units(network, pictures, some) for some in (seen, unseen)] for name, network in networks.items()}
    found = {name: _detected(some, presence) for name, some in units.items()}
    pixels = [as_input(pictures.pixels[some, 0]).flatten(1) for some in (seen, unseen)]
    generator = torch.Generator().manual_seed(run.recipe.seed)
    shuffled = [some[torch.randperm(len(some), generator=generator)] for some in presence]
    mixed = [within_classes(here, pictures.labels[some]) for here, some in zip(presence, (seen, unseen), strict=True)]
    by_layer = {
        name: np.stack([_detected(layer, presence).areas for layer in _layers(units[name])])
        for name in (TRAINED, UNTRAINED)
    }
    return Seed(
        {
            **{name: detected.areas for name, detected in found.items()},
            "pixels": detection((pixels[0], presence[0]), (pixels[1], presence[1])).areas,
            "shuffled": _detected(units[TRAINED], shuffled).areas,
            "shuffled, untrained": _detected(units[UNTRAINED], shuffled).areas,
        },
        by_layer,
        {name: detected.units // run.recipe.decoder.hidden for name, detected in found.items()},
        {name: _detected(units[name], mixed).areas for name in (TRAINED, UNTRAINED)},
    )


def _units(network: Decoder, pictures: Pictures, subjects: Tensor) -> list[Tensor]:
    """The hidden units of each layer on one picture of each subject, largest over patches, (N, K) each."""
    return pooled_hidden(network, as_input(pictures.pixels[subjects, 0]))


def _layers(units: Sequence[Sequence[Tensor]]) -> list[list[list[Tensor]]]:
    seen, unseen = units
    return [[[one], [other]] for one, other in zip(seen, unseen, strict=True)]


def _detected(units: Sequence[Sequence[Tensor]], presence: Sequence[Tensor]) -> Detection:
    """Choose among the units of all layers on the first samples, and score on the second."""
    (seen, unseen), (here, there) = ([torch.cat(list(layers), dim=1) for layers in units], presence)
    return detection((seen, here), (unseen, there))


def _gain(learned: Float[np.ndarray, " P"], before: Float[np.ndarray, " P"], chosen: np.ndarray) -> float:
    """The rise of the mean AUC of some parts, relative to its distance from 1.

    Raises:
        RunFailed: there is no distance.
    """
    after, start = np.nanmean(learned[chosen]), np.nanmean(before[chosen])
    if start > 1 - _NO_DISTANCE:
        problem, kept = "the untrained network detects every part without an error", "the networks are kept"
        raise RunFailed(problem, kept=kept, remedy="take pictures whose parts are harder to see")
    return float((after - start) / (1 - start))


def _findings(pictures: Pictures, seeds: Sequence[Seed], kinds: np.ndarray, accuracy: Course) -> list[Finding]:
    majority = int(pictures.labels.bincount().max()) / len(pictures.labels)
    found = [
        Finding(
            "accuracy on unseen subjects",
            Estimate.of(accuracy.values[:, -1]),
            f"the commonest label is right for {majority:.3f}",
        )
    ]
    for kind, name in KINDS.items():
        if kind not in kinds:
            continue
        for what in (TRAINED, UNTRAINED, PERMUTED, "pixels", "shuffled"):
            value = Estimate.of(np.nanmean(seed.areas[what][kinds == kind]) for seed in seeds)
            label = "best pixel" if what == "pixels" else what
            found.append(Finding(f"AUC, {name}: {label}", value, f"mean over {(kinds == kind).sum()} parts"))
    if "elsewhere" in kinds:
        gains = [_gain(seed.areas[TRAINED], seed.areas[UNTRAINED], kinds == "elsewhere") for seed in seeds]
        found.append(Finding(f"gain, {KINDS['elsewhere']}", Estimate.of(gains)))
    return found + _within(seeds, kinds) + _depths(pictures, seeds, kinds)


def _within(seeds: Sequence[Seed], kinds: np.ndarray) -> list[Finding]:
    """The AUC of parts within the classes that show them in some subjects only, where the label says nothing."""
    chosen = (kinds == "label") & np.all([~np.isnan(seed.within[TRAINED]) for seed in seeds], axis=0)
    if not chosen.any():
        return []
    comment = f"mean over {chosen.sum()} parts that the label does not determine"
    return [
        Finding(
            f"AUC within classes, {KINDS['label']}: {name}",
            Estimate.of(seed.within[name][chosen].mean() for seed in seeds),
            comment,
        )
        for name in (TRAINED, UNTRAINED)
    ]


def _depths(pictures: Pictures, seeds: Sequence[Seed], kinds: np.ndarray) -> list[Finding]:
    """The rank correlation of a part's depth in its tree with the layer that finds it, and the same of two controls."""
    depths = [part.depth for part in pictures.parts if part.kind == "label"]
    layers = {name: [seed.layers[name][kinds == "label"] for seed in seeds] for name in (TRAINED, UNTRAINED)}
    if None in depths or min(len(set(one)) for one in (depths, *layers[TRAINED], *layers[UNTRAINED])) < 2:
        return []
    orders = [np.random.default_rng(seed).permutation(len(depths)) for seed in range(len(seeds))]
    layers["depths shuffled over parts"] = [one[order] for one, order in zip(layers[TRAINED], orders, strict=True)]
    return [
        Finding(
            f"rank correlation of a part's depth and the layer that finds it: {name}",
            Estimate.of(spearmanr(depths, one).statistic for one in of_seeds),
            f"{len(depths)} parts that make the label; below 0: deep parts in early layers",
        )
        for name, of_seeds in layers.items()
    ]


def _layers_chart(seeds: Sequence[Seed], kinds: np.ndarray) -> Chart:
    curves = []
    for kind, name in KINDS.items():
        for network, role in ((TRAINED, "measured"), (UNTRAINED, "control")):
            if kind in kinds:
                values = np.stack([np.nanmean(seed.by_layer[network][:, kinds == kind], axis=1) for seed in seeds])
                low, mean, high = (part.tolist() for part in (values.min(0), values.mean(0), values.max(0)))
                x = tuple(map(float, range(len(mean))))
                curves.append(Curve(f"{name}, {network}", x, mean, low, high, role, name))
    return Chart(
        "layers",
        "How well the best unit of each layer detects a part, by kind of part",
        "Units are chosen on subjects seen in training and scored on others. Bands: lowest to highest seed.",
        "layer",
        "AUC, mean over parts",
        tuple(curves),
    )


def _parts_chart(pictures: Pictures, seeds: Sequence[Seed], kinds: np.ndarray) -> Chart:
    before, after = (np.mean([seed.areas[name] for seed in seeds], axis=0) for name in (UNTRAINED, TRAINED))
    known = ~np.isnan(before + after)
    curves = tuple(
        Curve(KINDS[kind], before[chosen].tolist(), after[chosen].tolist(), joined=False, group=KINDS[kind])
        for kind, chosen in ((kind, known & (kinds == kind)) for kind in KINDS)
        if chosen.any()
    )
    ends = (float(np.nanmin([before, after])), 1.0)
    return Chart(
        "parts",
        f"The parts of {pictures.name}, one dot each",
        "Above the line the trained network's best unit is better than that of the same network before training.",
        "AUC before training",
        "AUC after training",
        (*curves, Curve("no change", ends, ends, role="context")),
    )


def _conclusion(agreement: Agreement, seeds: Sequence[Seed], kinds: np.ndarray) -> str:
    opening = {
        Verdict.HOLDS: "Learning the label makes single units detect the parts that make it, in pictures never seen",
        Verdict.FAILS: "Learning the label hardly makes single units detect the parts that make it",
        Verdict.UNDECIDED: "Whether learning the label makes single units detect the parts that make it is not decided",
    }[agreement.verdict]

    def areas(kind: Kind) -> str:
        before, after = (
            np.mean([np.nanmean(seed.areas[name][kinds == kind]) for seed in seeds]) for name in (UNTRAINED, TRAINED)
        )
        return f"from {before:.2f} to {after:.2f}"

    others = f", and for parts that make no label {areas('other')}" if "other" in kinds else ""
    return (
        f"{opening}: the probability that the best unit ranks a picture with the part above one without it goes "
        f"{areas('label')}{others}; 0.5 is chance."
    )


def _notes(kinds: np.ndarray) -> tuple[str, ...]:
    counts = ", ".join(f"{(kinds == kind).sum()} {name}" for kind, name in KINDS.items() if kind in kinds)
    missing = (
        () if "other" in kinds else ("No part that makes no label is there often enough: nothing is said on those.",)
    )
    return (
        *missing,
        f"Parts in at least {FEWEST_WITH} subjects, and missing in as many: {counts}. The same name may be there in "
        "two kinds; subjects that have a part in another kind only do not count for it.",
        "Units of all layers, largest over patches; the one of the largest absolute correlation is chosen on the "
        "subjects seen in training. Criterion, threshold and kinds of parts were set before any network was measured.",
    )
