"""Verify that the saved steps of a series are the steps that their names state.

The first checks need no weights: hashes from the hub and tables of contents. The others read a small fixed sample of
each step's weights. The weights of one training run lie on a path, so that the steps before and after a step lie on
opposite sides of it: the cosine of the two directions is −1 on a straight path, 0 in a random walk and 1/2 for
independent noise around one point. A step with both neighbours on the same side does not lie between them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from joma.errors import BadInput, RunFailed, cause_of
from joma.measure.models.configurations import odd_settings
from joma.measure.scan.ordering import NEARER, UNRELATED, Path, jumps, out_of_line
from joma.progress import Progress, silent
from joma.saved.ranges import WRITE_AGAIN
from joma.saved.reading import not_finite
from joma.saved.series import CheckpointFiles, Series

Kind = Literal[
    "unreadable",
    "unreachable",
    "tensors",
    "config",
    "not_finite",
    "identical",
    "not_initialisation",
    "out_of_place",
    "jump",
]

NUM_SAMPLED = 6
"""Number of sampled matrices of each step, spread over the layers."""

NUM_ENTRIES = 4096
"""Sampled entries per matrix: in 24,000 dimensions, cosines of 0 and 0.6 differ by 90 standard deviations."""

MOST_SPREAD = 1.3
"""Largest σ₁ at initialisation, relative to independent entries of equal variance; it is 1 up to a few per cent."""

_NORM = re.compile(r"(norm|ln_\w+|layernorm)\w*\.weight$", re.IGNORECASE)
_EMBEDDING = re.compile(r"embed|wte|wpe|lm_head|token", re.IGNORECASE)


@dataclass(frozen=True)
class Suspect:
    """A fault of a step.

    Args:
        step: its number.
        kind: of the fault.
        evidence: what was found, with numbers.
        severity: ``error`` if a curve through this step would be wrong, ``warning`` if it may be.
        remedy: one thing to do.
    """

    step: int
    kind: Kind
    evidence: str
    severity: Literal["error", "warning"]
    remedy: str


@dataclass(frozen=True)
class Verification:
    """The result of verifying a series.

    Args:
        source: the series.
        steps: the verified steps.
        rows: faults in the order of steps; empty for an intact series.
        bytes_read, bytes_stored: bytes read, and the size of the weights.
    """

    source: str
    steps: tuple[int, ...]
    rows: tuple[Suspect, ...]
    bytes_read: int
    bytes_stored: int

    @property
    def condemned(self) -> dict[int, str]:
        """The steps that curves should leave out, with the kinds of their faults.

        These are the steps with an error; a step with a warning is the step that its name states. Where jumps separate
        training runs, only the longest stretch of steps is kept (the first of equally long ones).
        """
        found: dict[int, str] = {}
        for row in self.rows:
            if row.severity == "error" and row.kind != "jump":
                found[row.step] = f"{found[row.step]}, {row.kind}" if row.step in found else row.kind
        left = [step for step in self.steps if step not in found]
        jumped = {left.index(row.step) for row in self.rows if row.kind == "jump" and row.step in left}
        # A jump is reported for the step after it, or for the first step if that is alone before the jump.
        cuts = [0, *sorted({place or 1 for place in jumped}), len(left)]
        stretches = [left[start:stop] for start, stop in pairwise(cuts)]
        longest = max(stretches, key=len)
        return found | {step: "jump" for stretch in stretches if stretch is not longest for step in stretch}


def verify(series: Series, *, progress: Progress = silent) -> Verification:
    """Find steps that are damaged, copied or out of order, and a step 0 that is not an initialisation.

    Args:
        series: at least one step; order and jumps need three.
        progress: called with the number of verified steps.

    Returns:
        The faults with their evidence. A step that cannot be read is one of them and raises no error.
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
    rows += _different_tensors(checkpoints)
    rows += _different_configurations({step: checkpoint.config for step, checkpoint in checkpoints.items()})
    sampled = _sampled(checkpoints)
    samples: dict[int, Tensor] = {}
    for done, (step, checkpoint) in enumerate(checkpoints.items(), 1):
        tensors = checkpoint.tensors
        here = [name for name, shape in sampled.items() if name in tensors and tensors[name].shape == shape]
        try:
            found = series.read(step, here, at_most=NUM_ENTRIES)
        except Exception as error:  # noqa: BLE001 (any error is reported as a fault of this step)
            rows.append(_failed(step, error))
        else:
            if (problem := not_finite(found)) is not None:
                evidence = f"of the sampled weights, {problem}"
                rows.append(Suspect(step, "not_finite", evidence, "error", "leave out this step and the later ones"))
            elif here and len(here) == len(sampled):
                samples[step] = torch.cat([tensor.double().flatten() for tensor in found.values()])
        progress(f"verifying the steps of {series.source}", done, len(checkpoints))
    reached = [step for step in series.steps if not any(row.step == step and row.kind == "unreachable" for row in rows)]
    rows += _copies(series, reached, samples)
    copied = {row.step for row in rows if row.kind == "identical"}
    rows += _off_the_path({step: sample for step, sample in samples.items() if step not in copied})
    if series.numbered and 0 in samples:
        wrong = {row.step for row in rows if row.severity == "error"}
        path = Path.through({step: sample for step, sample in samples.items() if step not in wrong})
        rows += _not_initial(series, checkpoints[0], list(sampled), fine_tuned=0 in path.steps and _is_continued(path))
    ordered = sorted(rows, key=lambda row: row.step)
    return Verification(series.source, series.steps, tuple(ordered), series.bytes_read, series.bytes_stored)


def _failed(step: int, error: Exception) -> Suspect:
    if isinstance(error, BadInput | RunFailed):
        kind: Kind = "unreadable" if isinstance(error, BadInput) else "unreachable"
        return Suspect(step, kind, error.problem, "error", error.remedy)
    return Suspect(step, "unreadable", f"it cannot be read ({cause_of(error)})", "error", WRITE_AGAIN)


def _different_configurations(configs: Mapping[int, Mapping[str, Any]]) -> Iterator[Suspect]:
    """Find steps whose settings differ from most steps: an error if they change what the weights compute."""
    stated = {step: config for step, config in configs.items() if config}
    for step in configs.keys() - stated.keys() if stated else ():
        evidence = "it has no config.json, but other steps have one"
        yield Suspect(step, "config", evidence, "error", "copy the configuration that was saved with its weights")
    for step, odd in odd_settings(stated).items():
        decisive = [setting for setting in odd if setting.decisive]
        found = [f"{name} is {here!r} and not {usual!r}" for name, here, usual, _ in (decisive or odd)[:2]]
        more = f"; {len(odd) - len(found)} more settings differ" if odd[len(found) :] else ""
        remedy = "check which model it is" if decisive else "check whether it matters"
        yield Suspect(step, "config", "; ".join(found) + more, "error" if decisive else "warning", remedy)


def _different_tensors(checkpoints: Mapping[int, CheckpointFiles]) -> Iterator[Suspect]:
    """Find steps whose tensors differ in names, shapes or dtypes from those of most steps."""
    tables = {
        step: {name: (place.shape, place.dtype) for name, place in checkpoint.tensors.items()}
        for step, checkpoint in checkpoints.items()
    }
    if not tables:
        return
    usual = dict(Counter(tuple(sorted(table.items(), key=str)) for table in tables.values()).most_common(1)[0][0])
    for step, table in tables.items():
        missing, extra = sorted(usual.keys() - table.keys()), sorted(table.keys() - usual.keys())
        shared = usual.keys() & table.keys()
        reshaped = sorted(name for name in shared if usual[name][0] != table[name][0])
        retyped = sorted(name for name in shared if usual[name][1] != table[name][1])
        renamed = [(old, new) for old in missing for new in extra if usual[old] == table[new]]
        found = [f"{old} is missing, and there is {new} of the same shape instead" for old, new in renamed[:1]]
        found += [f"{name} is missing" for name in missing[:1] if not renamed]
        found += [f"there is {name}, which most steps do not have" for name in extra[:1] if not renamed]
        found += [f"{name} has the shape {table[name][0]} and not {usual[name][0]}" for name in reshaped[:1]]
        if found:
            counts = f" ({len(missing)} missing, {len(extra)} new, {len(reshaped)} of another shape)"
            remedy = "leave out this step, or check which model it is"
            yield Suspect(step, "tensors", "; ".join(found) + counts, "error", remedy)
        elif retyped:
            name = retyped[0]
            evidence = f"{name} and {len(retyped) - 1} more are {table[name][1]} and not {usual[name][1]}"
            yield Suspect(step, "tensors", evidence, "warning", "note that values are rounded differently there")


def _sampled(checkpoints: Mapping[int, CheckpointFiles]) -> dict[str, tuple[int, ...]]:
    """Return the shapes by name of matrices that most steps have, evenly spread over the network."""
    counts = Counter(
        (name, place.shape)
        for checkpoint in checkpoints.values()
        for name, place in checkpoint.tensors.items()
        if place.dtype.is_floating_point and len(place.shape) >= 2 and not _EMBEDDING.search(name)
    )
    shapes = {name: shape for (name, shape), count in counts.items() if 2 * count > len(checkpoints)}
    names = sorted(shapes, key=_natural)
    if len(names) > NUM_SAMPLED:
        names = [names[index * (len(names) - 1) // (NUM_SAMPLED - 1)] for index in range(NUM_SAMPLED)]
    return {name: shapes[name] for name in names}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _copies(series: Series, reached: list[int], samples: Mapping[int, Tensor]) -> Iterator[Suspect]:
    """Find steps with exactly the weights of another step, by hash or by value."""
    groups = [(steps, reason) for reason, steps in _hashes(series, reached)]
    hashed = {step for steps, _ in groups for step in steps}
    by_sample: dict[bytes, list[int]] = {}
    for step, sample in samples.items():
        if step not in hashed:
            by_sample.setdefault(sample.numpy().tobytes(), []).append(step)
    groups += [(steps, "all sampled weights are equal") for steps in by_sample.values() if len(steps) > 1]
    for steps, reason in groups:
        owner = _owner(steps, samples)
        for step in steps:
            if step != owner:
                warmup = abs(step - owner) == 1
                evidence = f"it has the weights of step {owner}: {reason} (steps {', '.join(map(str, steps))})"
                if warmup:
                    evidence += "; a warm-up that begins with a learning rate of 0 does this too in the first step"
                remedy = _other_kind(series, step, owner) or "leave out this step, or ask who published the series"
                yield Suspect(step, "identical", evidence, "warning" if warmup else "error", remedy)


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


def _owner(steps: list[int], samples: Mapping[int, Tensor]) -> int:
    """Return the step to which shared weights belong: the one nearest to a neighbour outside the group, or the last.

    Consecutive steps have the same two neighbours; then the distances of the weights to these are compared with the
    numbers of steps.
    """
    others = [step for step in samples if step not in steps]
    if not others or steps[0] not in samples:
        return steps[-1]

    def misfit(step: int) -> tuple[float, float]:
        neighbours = [other for other in others if other < step][-1:] + [other for other in others if other > step][:1]
        lengths = [float((samples[step] - samples[other]).norm()) for other in neighbours]
        if len(neighbours) < 2:
            return min(lengths), 0.0
        share = (step - neighbours[0]) / (neighbours[1] - neighbours[0])
        return min(lengths), abs(share - lengths[0] / sum(lengths))

    return min(steps, key=misfit)


def _other_kind(series: Series, step: int, owner: int) -> str | None:
    """Return the advice to read the step's files of another format, if these differ between the two steps."""
    here, there = series.kinds(step), series.kinds(owner)
    for kind in list(here)[1:]:
        pair = [tuple(file.digest for file in held.get(kind, ())) for held in (here, there)]
        if pair[0] != pair[1] and all(pair) and None not in (*pair[0], *pair[1]):
            return f"its {here[kind][0].name} differs: read that with weights='{kind}'"
    return None


def _off_the_path(samples: Mapping[int, Tensor]) -> Iterator[Suspect]:
    found = {outlier.step: outlier.evidence for outlier in out_of_line(Path.through(samples))}
    for step, evidence in found.items():
        yield Suspect(step, "out_of_place", evidence, "error", "leave out this step, or check where it belongs")
    for outlier in jumps(Path.through({step: sample for step, sample in samples.items() if step not in found})):
        remedy = "check that all steps are of the same training run"
        yield Suspect(outlier.step, "jump", outlier.evidence, "error", remedy)


def _is_continued(path: Path) -> bool:
    """Whether training continues from the first step: its successor is related to it, and no later step is nearer."""
    if len(path.steps) < 3:  # there is no later step to compare with
        return False
    later = min(path.distance(0, place) for place in range(2, len(path.steps)))
    return path.cosine(0, 1) > UNRELATED and later > NEARER * path.distance(0, 1)


def _not_initial(
    series: Series, checkpoint: CheckpointFiles, sampled: list[str], *, fine_tuned: bool
) -> Iterator[Suspect]:
    """Find signs of training in step 0: unequal scales of norms, and singular values above the random level."""
    norms = [name for name, place in checkpoint.tensors.items() if len(place.shape) == 1 and _NORM.search(name)]
    matrices = [name for name in sampled if len(checkpoint.tensors[name].shape) == 2][:: max(1, len(sampled) // 3)]
    try:
        found = series.read(0, [*norms, *matrices])
    except Exception as error:  # noqa: BLE001 (any error is reported as a fault of this step)
        yield _failed(0, error)
        return
    varied = [name for name in norms if bool(found[name].min() != found[name].max())]
    spread = {name: _beyond_chance(found[name].float()) for name in matrices}
    structured = [name for name, ratio in spread.items() if ratio > MOST_SPREAD]
    evidence = []
    if 2 * len(varied) > len(norms):
        name = varied[0]
        low, high = float(found[name].min()), float(found[name].max())
        evidence.append(
            f"the scales of {len(varied)} of {len(norms)} norms are not all equal (those of {name} range from "
            f"{low:.4g} to {high:.4g}; an initialisation sets all to one value)"
        )
    if 2 * len(structured) > len(spread):
        name = max(structured, key=lambda name: spread[name])
        evidence.append(
            f"the largest singular value of {name} is {spread[name]:.2f} times that of independent entries"
            " (1.0 at initialisation)"
        )
    remedy = "start the series at its next step, or look for the real initialisation"
    if evidence and fine_tuned:
        evidence.append("the next steps continue from it, as in fine-tuning")
        remedy = "look for the real initialisation if the model was trained from scratch"
    if evidence:
        severity = "warning" if fine_tuned else "error"
        yield Suspect(0, "not_initialisation", "; ".join(evidence), severity, remedy)


def _beyond_chance(matrix: Tensor) -> float:
    """Return a lower bound of σ₁ divided by its limit for independent entries of equal variance."""
    rows, columns = matrix.shape
    by_chance = float(matrix.std()) * (rows**0.5 + columns**0.5)
    if not by_chance > 0:
        return 0.0
    vector = torch.ones(columns) + torch.arange(columns) / columns
    for _ in range(30):  # power iteration underestimates σ₁, so that structure is never reported falsely
        vector = matrix.T @ (matrix @ (vector / vector.norm()))
    return float(vector.norm()) ** 0.5 / by_chance
