"""Pictures of a scan: how each layer's course runs, steps by layers, and layers by heads."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from joma.charts import Chart, Curve, Heatmap
from joma.measure.scan.measures import MEASURES
from joma.measure.scan.results import StepResult
from joma.records import Estimate
from joma.report.scan import FIRST_ROLE, RECOVERING, Course, Scan, courses, last_result, suspect_note, title_of

_MOST_CURVES = 6
_STEPS_SPREAD = 50  # steps that spread over this factor are drawn on a logarithmic axis


def course_charts(scan: Scan) -> list[Chart]:
    """Entropy and rank of each layer over the steps, with the interval over groups of sequences as a band."""
    by_name: dict[str, list[Course]] = {}
    for course in courses(scan.judged):
        if course.measure in RECOVERING and course.projection in (None, FIRST_ROLE) and len(course.steps) > 1:
            by_name.setdefault(_id(course), []).append(course)
    return [_course_chart(id, found, suspect_note(scan)) for id, found in by_name.items()]


def step_heatmaps(scan: Scan) -> list[Heatmap]:
    """Steps by layers, one for each measure and projection, suspect steps struck out; none for a single step."""
    if len(scan.measured) < 2:
        return []
    by_name: dict[str, list[Course]] = {}
    for course in courses(scan.measured):
        by_name.setdefault(_id(course), []).append(course)
    return [_step_heatmap(id, found, scan.suspect) for id, found in by_name.items()]


def head_heatmaps(scan: Scan) -> list[Heatmap]:
    """Layers by heads at the last step, and for the entropy also where it was lowest over all layers."""
    if not scan.measured:
        return []
    last = last_result(scan)
    suspect = " (suspect)" if last.step in scan.suspect else ""
    when = f", step {last.step}{suspect}" if scan.numbered else ""
    found = [_head_heatmap(last, *place, when) for place in _per_head(last)]
    lowest = _sparsest(scan.judged)
    if lowest is not None and lowest.step != last.step:
        at = f", step {lowest.step}, where it was lowest"
        found.insert(1, _head_heatmap(lowest, "attention_entropy_nats", None, at, suffix="_sparsest"))
    return found


def _id(course: Course) -> str:
    return course.measure if course.projection is None else f"{course.measure}_{course.projection}"


def _course_chart(id: str, found: Sequence[Course], note: str) -> Chart:
    chosen = [found[at] for at in _spread(len(found), _MOST_CURVES)]
    groups = max(len(course.values) for course in found)
    left_out = f" {len(chosen)} of {len(found)} layers are shown." if len(chosen) < len(found) else ""
    band = f" The band is the 95 % interval over {groups} groups of probe sequences." if groups > 1 else ""
    steps = [step for step in chosen[0].steps if step > 0]
    logarithmic = bool(steps) and steps[-1] >= _STEPS_SPREAD * steps[0]
    return Chart(
        id,
        f"{_capital(title_of(found[0]))}, over the steps",
        " ".join(filter(None, (f"One line per layer.{band}{left_out}", note))),
        "step",
        title_of(found[0]),
        tuple(_curve(course) for course in chosen),
        x_scale="log" if logarithmic else "linear",
    )


def _curve(course: Course) -> Curve:
    label, steps = f"layer {course.layer}", [float(step) for step in course.steps]
    if len(course.values) == 1:
        return Curve(label, steps, course.mean.tolist())
    ends = [Estimate(tuple(values)).interval for values in course.values.T.tolist()]
    low, high = zip(*ends, strict=True)
    return Curve(label, steps, course.mean.tolist(), list(low), list(high))


def _step_heatmap(id: str, found: Sequence[Course], suspect: Collection[int]) -> Heatmap:
    steps = sorted({step for course in found for step in course.steps})
    rows = []
    for course in found:
        at = dict(zip(course.steps, course.mean.tolist(), strict=True))
        rows.append([at.get(step) for step in steps])
    what = MEASURES[found[0].measure].meaning
    over = "the mean over heads and probe sequences" if found[0].projection is None else "the whole projection"
    return Heatmap(
        f"{id}_steps_layers",
        f"{_capital(title_of(found[0]))}: steps by layers",
        f"Each place is {over}. Saved steps stand side by side, however far apart they are."
        + (" Struck out: steps that are suspect." if suspect else ""),
        "step",
        "layer",
        [f"{step}" for step in steps],
        [str(course.layer) for course in found],
        rows,
        what,
        struck=[place for place, step in enumerate(steps) if step in suspect],
    )


def _per_head(result: StepResult) -> list[tuple[str, str | None]]:
    found = dict.fromkeys((row.measure, row.projection) for row in result.rows if row.head is not None)
    return list(found)


def _head_heatmap(result: StepResult, measure: str, projection: str | None, when: str, *, suffix: str = "") -> Heatmap:
    values: dict[tuple[int, int], list[float]] = {}
    for row in result.rows:
        if (row.measure, row.projection) == (measure, projection) and row.head is not None and row.layer is not None:
            values.setdefault((row.layer, row.head), []).append(row.value)
    layers, heads = (sorted({place[axis] for place in values}) for axis in (0, 1))
    means = {place: float(np.mean(found)) for place, found in values.items()}
    what = MEASURES[measure].meaning
    of = f" of {projection}" if projection else ""
    return Heatmap(
        f"{measure}{f'_{projection}' if projection else ''}_layers_heads{suffix}",
        f"{_capital(what)}{of}: layers by heads{when}",
        "Each place is one head" + (", the mean over probe sequences." if projection is None else "'s own matrix."),
        "head",
        "layer",
        [str(head) for head in heads],
        [str(layer) for layer in layers],
        [[means.get((layer, head)) for head in heads] for layer in layers],
        what,
    )


def _sparsest(results: Sequence[StepResult]) -> StepResult | None:
    """The step at which attention has the lowest entropy on the whole."""
    means = {}
    for result in results:
        values = [row.value for row in result.rows if row.measure == "attention_entropy_nats"]
        if values:
            means[result.step] = float(np.mean(values))
    if not means:
        return None
    lowest = min(means, key=lambda step: means[step])
    return next(result for result in results if result.step == lowest)


def _spread(num: int, most: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, num - 1, min(num, most)).tolist()})


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
