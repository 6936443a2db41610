"""Pictures of a scan or of a watched model: curves over the steps, steps by layers, and layers by heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from joma.charts import Chart, Heatmap
from joma.measure.curves.course import Course
from joma.measure.curves.quantities import ENTROPY, Probes, Quantity, by_head, courses, shown_verdicts
from joma.metrics import METRICS
from joma.report.drawing.looks import spread
from joma.report.drawing.words import capitalized

_MOST_CURVES = 6
_STEPS_SPREAD = 50  # steps that spread over this factor are drawn on a logarithmic axis


def course_pictures(probes: Probes, note: str = "") -> list[Chart]:
    """Return charts of entropy and rank of each layer over the steps, with intervals over groups as bands.

    Args:
        probes: the measurements by step.
        note: appended to each caption.
    """
    shown = {
        quantity: course
        for quantity, course in courses(probes).items()
        if METRICS[quantity.metric].recovers and quantity.is_shown and len(course.steps) > 1
    }
    return [_course_chart(*kind, found, note) for kind, found in _by_kind(shown).items()]


def step_pictures(probes: Probes, suspect: Collection[int] = ()) -> list[Heatmap]:
    """Return heatmaps of steps by layers for each metric and projection, suspect steps struck out."""
    if len(probes) < 2:
        return []
    return [_step_heatmap(*kind, by_layer, suspect) for kind, by_layer in _by_kind(courses(probes)).items()]


def head_pictures(probes: Probes, when: str = "", sparsest: int | None = None) -> list[Heatmap]:
    """Return heatmaps of layers by heads at the last step, for the entropy also at the step where it was lowest.

    Args:
        probes: the measurements by step.
        when: the last step in words, for the titles.
        sparsest: the step where the entropy over all layers was lowest.
    """
    if not probes:
        return []
    last = max(probes)
    found = [_head_heatmap(*kind, values, when) for kind, values in by_head(probes[last]).items()]
    if sparsest not in (None, last):
        at = f", step {sparsest}, where it was lowest"
        found.insert(1, _head_heatmap(ENTROPY, None, by_head(probes[sparsest])[ENTROPY, None], at, suffix="_sparsest"))
    return found


def _by_kind(found: Mapping[Quantity, Course]) -> dict[tuple[str, str | None], dict[int, Course]]:
    """Group courses by metric and projection, then by layer."""
    kinds: dict[tuple[str, str | None], dict[int, Course]] = {}
    for (metric, layer, projection), course in found.items():
        kinds.setdefault((metric, projection), {})[layer] = course
    return kinds


def title_of(metric: str, projection: str | None) -> str:
    """Return the metric with its unit, and the projection, in words."""
    words = METRICS[metric].axis
    return words if projection is None else f"{words} of {projection}"


def quantities_summary(probes: Probes) -> str:
    """Return the verdicts on attention and rank in words; empty if there are too few steps."""
    outcomes = Counter(
        f"{title_of(quantity.metric, quantity.projection)}{':' * found.outcome.startswith('whether')} "
        f"{found.outcome.replace('; ', ', ')}"
        for quantity, found in shown_verdicts(probes).items()
    )
    return "; ".join(f"in {num} layer{'' if num == 1 else 's'} {what}" for what, num in outcomes.items())


def _id(metric: str, projection: str | None) -> str:
    return metric if projection is None else f"{metric}_{projection}"


def _course_chart(metric: str, projection: str | None, found: Mapping[int, Course], note: str) -> Chart:
    layers = list(found)
    chosen = [layers[at] for at in spread(len(layers), _MOST_CURVES)]
    groups = max(len(course.values) for course in found.values())
    left_out = f" {len(chosen)} of {len(found)} layers are shown." if len(chosen) < len(found) else ""
    band = f" The band is the 95 % interval over {groups} groups of probe sequences." if groups > 1 else ""
    steps = [step for step in found[chosen[0]].steps if step > 0]
    logarithmic = bool(steps) and steps[-1] >= _STEPS_SPREAD * steps[0]
    title = title_of(metric, projection)
    return Chart(
        _id(metric, projection),
        f"{capitalized(title)}, over the steps",
        " ".join(filter(None, (f"One line per layer.{band}{left_out}", note))),
        "step",
        title,
        tuple(found[layer].curve(f"layer {layer}", group="", band="interval") for layer in chosen),
        x_scale="log" if logarithmic else "linear",
    )


def _step_heatmap(
    metric: str, projection: str | None, found: Mapping[int, Course], suspect: Collection[int]
) -> Heatmap:
    steps = sorted({step for course in found.values() for step in course.steps})
    means = [dict(zip(course.steps, course.mean.tolist(), strict=True)) for course in found.values()]
    over = "the mean over heads and probe sequences" if projection is None else "the whole projection"
    return Heatmap(
        f"{_id(metric, projection)}_steps_layers",
        f"{capitalized(title_of(metric, projection))}: steps by layers",
        f"Each cell is {over}. Saved steps have equal widths, whatever their distance."
        + (" Suspect steps are struck out." if suspect else ""),
        "step",
        "layer",
        [f"{step}" for step in steps],
        [str(layer) for layer in found],
        [[of_layer.get(step) for step in steps] for of_layer in means],
        METRICS[metric].axis,
        struck=[place for place, step in enumerate(steps) if step in suspect],
    )


def _head_heatmap(
    metric: str, projection: str | None, values: Mapping[tuple[int, int], float], when: str, *, suffix: str = ""
) -> Heatmap:
    layers, heads = (sorted({place[axis] for place in values}) for axis in (0, 1))
    return Heatmap(
        f"{_id(metric, projection)}_layers_heads{suffix}",
        f"{capitalized(title_of(metric, projection))}: layers by heads{when}",
        "Each cell is one head" + (", the mean over probe sequences." if projection is None else "'s own matrix."),
        "head",
        "layer",
        [str(head) for head in heads],
        [str(layer) for layer in layers],
        [[values.get((layer, head)) for head in heads] for layer in layers],
        METRICS[metric].axis,
    )
