"""Verify that the saved steps of a series are the steps that their names state.

The first checks need no weights: hashes from a hub, tables of contents, configurations, tokenizers, missing steps
(``contents``). The others read the weights: all of them in a local folder that is small enough, else the two ends of
each tensor (``samples``). Equal weights are found by hashes. The weights of one training run lie on a path, so that
the steps before and after a step lie on opposite sides of it (``ordering``); a tensor that was replaced in one step
leaves its own course (``parts``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from joma.errors import BadInput, RunFailed, cause_of
from joma.measure.scan.contents import (
    different_configurations,
    different_tensors,
    different_tokenizers,
    gaps,
    usual_shapes,
)
from joma.measure.scan.initialisation import EMBEDDING, is_continued, not_initial
from joma.measure.scan.ordering import Path, jumps, out_of_line, rightful
from joma.measure.scan.parts import (
    Part,
    Tensors,
    copied_parts,
    damaged_entries,
    detours,
    replaced_parts,
    scaled_parts,
    scaled_steps,
)
from joma.measure.scan.samples import Courses, Extent
from joma.measure.scan.suspects import Kind, Suspect, listed
from joma.progress import Progress, silent
from joma.saved.ranges import WRITE_AGAIN
from joma.saved.reading import ends, not_finite
from joma.saved.series import CheckpointFiles, Series

ASIDE, ASIDE_ALONE = 0.35, 0.35
"""Median cosine over all tensors, and how far above its course, from which weights go aside and come back."""


@dataclass(frozen=True)
class Verification:
    """The result of verifying a series.

    Args:
        source: the series.
        steps: the verified steps.
        rows: faults in the order of steps; empty for an intact series.
        bytes_read, bytes_stored: bytes read, and the size of the weights.
        looked_at: a sentence about what was compared, and what was not.
    """

    source: str
    steps: tuple[int, ...]
    rows: tuple[Suspect, ...]
    bytes_read: int
    bytes_stored: int
    looked_at: str = ""

    @property
    def condemned(self) -> dict[int, str]:
        """The steps that curves should leave out, with the kinds of their faults.

        These are the steps with an error; a step with a warning is the step that its name states. Where jumps separate
        training runs, only the longest stretch of steps is kept (the first of equally long ones).
        """
        errors = [row for row in self.rows if row.severity == "error"]
        found: dict[int, str] = {}
        for row in errors:
            if row.kind != "jump":
                found[row.step] = f"{found[row.step]}, {row.kind}" if row.step in found else row.kind
        left = [step for step in self.steps if step not in found]
        jumped = {left.index(row.step) for row in errors if row.kind == "jump" and row.step in left}
        # A jump is reported for the step after it, or for the first step if that is alone before the jump.
        cuts = [0, *sorted({place or 1 for place in jumped}), len(left)]
        stretches = [left[start:stop] for start, stop in pairwise(cuts)]
        longest = max(stretches, key=len)
        return found | {step: "jump" for stretch in stretches if stretch is not longest for step in stretch}


def verify(series: Series, *, progress: Progress = silent) -> Verification:
    """Find steps that are damaged, mixed, copied or out of order, and a step 0 that is not an initialisation.

    Args:
        series: at least one step; order and jumps need three.
        progress: called with the number of verified steps.

    Returns:
        The faults with their evidence. A step that cannot be read is one of them and raises no error.

    Raises:
        BadInput: no step can be read in the format that was requested.
    """
    rows: list[Suspect] = []
    checkpoints: dict[int, CheckpointFiles] = {}
    for step in series.steps:
        try:
            checkpoints[step] = series.checkpoint(step)
        except Exception as error:  # noqa: BLE001 (any error is reported as a fault of this step)
            rows.append(_failed(step, error))
        else:
            remedy = "remove the files that are not the model"
            rows += [Suspect(step, "tensors", note, "warning", remedy) for note in checkpoints[step].notes]
    if not checkpoints and series.weights is not None:
        series.last(series.checkpoint)  # raises the error of the first step
    rows += different_tensors(checkpoints)
    rows += different_configurations({step: checkpoint.config for step, checkpoint in checkpoints.items()})
    rows += different_tokenizers(series, list(checkpoints))
    if series.numbered and not series.is_selection:
        rows += gaps(series.steps)
    shapes = usual_shapes(checkpoints)
    hashed = [step for step, checkpoint in checkpoints.items() if all(file.digest for file in checkpoint.files)]
    extent = Extent.of(series, shapes, is_hashed=len(hashed) == len(checkpoints))
    if extent.num_entries is not None:
        tables = [checkpoint.tensors for checkpoint in checkpoints.values()]
        whole = {name for table in tables for name, place in table.items() if ends(place, 1) is None}
        shapes = {name: shape for name, shape in shapes.items() if name not in whole}
    courses = Courses(frozenset(name for name, shape in shapes.items() if len(shape) > 1))
    for done, (step, checkpoint) in enumerate(checkpoints.items(), 1):
        rows += _read(series, step, checkpoint, shapes, extent, courses)
        progress(f"verifying the steps of {series.source}", done, len(checkpoints))
    reached = [step for step in series.steps if not any(row.step == step and row.kind == "unreachable" for row in rows)]
    rows += _of_the_weights(series, reached, courses, whole=extent.num_entries is None)
    if series.numbered and 0 in courses.kept:
        wrong = {row.step for row in rows if row.severity == "error"}
        path = _path(Tensors.of(courses, [step for step in courses.steps if step not in wrong]))
        continued = 0 in path.steps and is_continued(path)
        try:
            rows += not_initial(series, checkpoints[0], at_most=extent.rest, fine_tuned=continued)
        except Exception as error:  # noqa: BLE001 (any error is reported as a fault of this step)
            rows.append(_failed(0, error))
    ordered = tuple(sorted(rows, key=lambda row: row.step))
    looked_at = _looked_at(courses, extent, len(checkpoints))
    return Verification(series.source, series.steps, ordered, series.bytes_read, series.bytes_stored, looked_at)


def _failed(step: int, error: Exception) -> Suspect:
    if isinstance(error, BadInput | RunFailed):
        kind: Kind = "unreadable" if isinstance(error, BadInput) else "unreachable"
        return Suspect(step, kind, error.problem, "error", error.remedy)
    return Suspect(step, "unreadable", f"it cannot be read ({cause_of(error)})", "error", WRITE_AGAIN)


def _read(
    series: Series,
    step: int,
    checkpoint: CheckpointFiles,
    shapes: Mapping[str, tuple[int, ...]],
    extent: Extent,
    courses: Courses,
) -> Iterator[Suspect]:
    """Read a step, add it to the courses if it has the usual tensors, and report weights that are not finite."""
    tensors = checkpoint.tensors
    here = [name for name, shape in shapes.items() if name in tensors and tensors[name].shape == shape]
    try:
        content = extent.read(series, step, here)
        problem = not_finite(content)
    except Exception as error:  # noqa: BLE001 (any error is reported as a fault of this step)
        yield _failed(step, error)
        return
    if not any(tensor.numel() for tensor in content.values()):
        evidence = f"none of its weights was looked at (of {len(tensors)} tensors)"
        yield Suspect(step, "not_compared", evidence, "error", "leave out this step, or check what its files hold")
    elif problem is not None:
        part = "" if extent.num_entries is None else "of the sampled weights, "
        remedy = "leave out this step and the later ones"
        yield Suspect(step, "not_finite", f"{part}{problem}", "error", remedy)
    elif len(here) == len(shapes):
        courses.add(step, content)


def _of_the_weights(series: Series, reached: list[int], courses: Courses, *, whole: bool) -> Iterator[Suspect]:
    """Find steps whose weights are damaged, equal to those of another step, mixed or out of place."""
    wrong: set[int] = set()
    for step, evidence in damaged_entries(courses):
        wrong.add(step)
        yield Suspect(step, "damaged", evidence, "error", "leave out this step, or fetch it again")
    everything = Tensors.of(courses, courses.steps)
    copies = list(_copies(series, reached, courses, _path(everything)))
    yield from copies
    wrong |= {row.step for row in copies}
    parts = [part for part in copied_parts(courses, everything, whole=whole) if part.step not in wrong]
    wrong |= {part.step for part in parts if part.is_sure}
    rest = everything.without(wrong)
    for step, evidence in scaled_steps(rest):
        wrong.add(step)
        yield Suspect(step, "scaled", evidence, "error", "leave out this step, or divide its weights by the factor")
    rest = rest.without(wrong)
    replaced_in = list(_replaced(rest))
    if any(out_of_line(_path(rest.without({part.step for part in replaced_in})))):  # not parts alone are wrong
        outliers = {outlier.step: outlier for outlier in out_of_line(_path(rest))}
        exchanged = {step for step, outlier in outliers.items() if outlier.exchanged_with is not None}
        replaced_in = list(_replaced(rest.without(exchanged)))
    else:
        outliers = {}
    parts += replaced_in
    for part in parts:
        severity = "error" if part.is_sure else "warning"
        yield Suspect(part.step, "part", part.evidence, severity, "leave out this step, or fetch it again")
    wrong = {part.step for part in parts}
    outliers = {step: outlier for step, outlier in outliers.items() if step not in wrong}
    for step, outlier in outliers.items():
        severity = "warning" if outlier.may_be_training else "error"
        yield Suspect(
            step, "out_of_place", outlier.evidence, severity, "leave out this step, or check where it belongs"
        )
    for part in scaled_parts(rest.without(wrong | outliers.keys())):
        yield Suspect(part.step, "scaled", part.evidence, "warning", "compare this matrix with that of another copy")
    yield from _of_the_course(rest.without(wrong | outliers.keys()))


def _replaced(tensors: Tensors) -> Iterator[Part]:
    """Find replaced parts of at most half of the matrices; of more, the whole step may be out of place."""
    matrices = _in_layers(tensors) or set(tensors.names)
    for part in replaced_parts(tensors):
        if 2 * len(matrices.intersection(part.names)) <= len(matrices):
            count = f"{len(part.names)} of {len(tensors.names)} tensors do not belong to it ({listed(part.names)}): "
            yield replace(part, evidence=count + part.evidence)


def _in_layers(tensors: Tensors) -> set[str]:
    """Return the matrices that are no embeddings."""
    return {name for name in tensors.names if name in tensors.matrices and not EMBEDDING.search(name)}


def _path(tensors: Tensors) -> Path:
    """Return the path of the matrices in layers that move, or else of all tensors."""
    matrices = _in_layers(tensors)
    chosen = tensors.moves & np.array([name in matrices for name in tensors.names], dtype=bool)
    return tensors.path(chosen if chosen.any() else np.ones_like(chosen))


def _of_the_course(tensors: Tensors) -> Iterator[Suspect]:
    """Find steps that go aside from the course of the others, and jumps."""
    for step, evidence in _aside(tensors):
        yield Suspect(step, "out_of_place", evidence, "warning", "check whether the step was trained further")
    for outlier in jumps(_path(tensors)):
        severity = "warning" if outlier.may_be_training else "error"
        yield Suspect(outlier.step, "jump", outlier.evidence, severity, "check that all steps are of one training run")


def _aside(tensors: Tensors) -> Iterator[tuple[int, str]]:
    """Yield the steps at which most tensors go aside and come back, as in training on top of a step."""
    away, cosine = detours(tensors)
    moving = np.isfinite(cosine).any(1)
    if not moving.any() or len(tensors.steps) < 5:
        return
    medians = np.nanmedian(cosine[moving][:, 1:-1], axis=0)
    for place, median in enumerate(medians):
        usual = float(np.median(np.delete(medians, place)))
        is_detour = float(np.nanmedian(away[moving, place + 1])) > 0
        if is_detour and median > max(ASIDE, usual + ASIDE_ALONE):
            yield (
                tensors.steps[place + 1],
                (
                    f"in most tensors, the steps before and after lie on one side of it (median cosine {median:.2f}; "
                    f"{usual:.2f} at the other steps), as after training on top of it or a spike of the learning rate"
                ),
            )


def _copies(series: Series, reached: list[int], courses: Courses, path: Path) -> Iterator[Suspect]:
    """Find steps with exactly the weights of another step, by hash or by value."""
    groups = [(steps, reason, True) for reason, steps in _hashes(series, reached)]
    hashed = {step for steps, *_ in groups for step in steps}
    by_content: dict[tuple[bytes, ...], list[int]] = {}
    for step, digests in courses.digests.items():
        if step not in hashed:
            by_content.setdefault(tuple(digests.values()), []).append(step)
    for steps in by_content.values():
        if len(steps) > 1:
            differ = all(file.digest for step in steps for file in series.weight_files(step))
            reason = f"all {len(courses.digests[steps[0]])} tensors are equal"
            groups.append(
                (steps, reason + (" where they were read, but the hashes differ" if differ else ""), not differ)
            )
    for steps, reason, is_sure in groups:
        places = [place for place, step in enumerate(path.steps) if step in steps]
        owner = path.steps[rightful(path, places)] if len(places) == len(steps) else steps[-1]
        for step in steps:
            if step != owner:
                warmup = abs(step - owner) == 1
                evidence = f"it has the weights of step {owner}: {reason} (steps {', '.join(map(str, steps))})"
                if warmup:
                    evidence += "; a warm-up that begins with a learning rate of 0 does this too in the first step"
                remedy = _other_kind(series, step, owner) or "leave out this step, or ask who published the series"
                yield Suspect(step, "identical", evidence, "warning" if warmup or not is_sure else "error", remedy)


def _hashes(series: Series, reached: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Yield groups of steps whose weight files have equal hashes, in the format that is read."""
    groups: dict[tuple[str, ...], list[int]] = {}
    named: dict[tuple[str, ...], str] = {}
    for step in reached:
        try:
            files = series.weight_files(step)
        except BadInput:  # it is unclear which files are the model; this is a fault already
            continue
        digests = tuple(file.digest for file in files if file.digest is not None)
        if files and len(digests) == len(files):
            groups.setdefault(digests, []).append(step)
            named[digests] = f"{files[0].name} has the hash {digests[0][:19]}… in all of them"
    for digests, steps in groups.items():
        if len(steps) > 1:
            yield named[digests], steps


def _other_kind(series: Series, step: int, owner: int) -> str | None:
    """Return the advice to read the step's files of another format, if these differ between the two steps."""
    here, there = series.kinds(step), series.kinds(owner)
    for kind in list(here)[1:]:
        pair = [tuple(file.digest for file in held.get(kind, ())) for held in (here, there)]
        if pair[0] != pair[1] and all(pair) and None not in (*pair[0], *pair[1]):
            return f"its {here[kind][0].name} differs: read that with weights='{kind}'"
    return None


def _looked_at(courses: Courses, extent: Extent, num_steps: int) -> str:
    """Describe what was compared and what was not."""
    compared = courses.digests[courses.steps[0]] if courses.steps else {}
    where = f"{len(compared)} of {len(extent.names)} tensors was compared in {len(courses.steps)} of {num_steps} steps"
    if extent.num_entries is None:
        return f"every entry of {where}; optimiser states were not"
    return (
        f"the first and last {extent.num_entries:,} entries of {where.replace('was', 'were')}; faults elsewhere in a "
        "tensor were not looked for"
    )
