"""Whether the steps of a series are what they say: looked at before any curve is drawn through them.

First what costs nothing: hashes that a hub knows, tables of contents. Then a small fixed sample of each step's
weights. Weights at steps of one training lie on a path, so a step sees the one before and the one after on opposite
sides: along a straight path the cosine of the two directions is −1, for a random walk 0, for independent noise around
one point 1/2. A step that sees both on the same side does not lie between them.
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
from joma.measure.scan.ordering import NEARER, STRANGERS, Path, out_of_line, torn
from joma.progress import Progress, silent
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
"""Matrices of each step that are sampled, spread over the layers."""

NUM_ENTRIES = 4096
"""Entries of each: 24,000 directions tell a cosine of 0 from 0.6 by some 90 standard deviations."""

MOST_SPREAD = 1.3
"""σ₁ over that of independent entries of the same spread: 1 at initialisation, up to a few per cent."""

_NORM = re.compile(r"(norm|ln_\w+|layernorm)\w*\.weight$", re.IGNORECASE)
_EMBEDDING = re.compile(r"embed|wte|wpe|lm_head|token", re.IGNORECASE)


@dataclass(frozen=True)
class Suspect:
    """Something that is not as it should be.

    Args:
        step: the step in question.
        kind: what is wrong with it.
        evidence: what was found, with numbers.
        severity: ``error`` where a curve through this step would be wrong, ``warning`` where it may be.
        remedy: one thing to do.
    """

    step: int
    kind: Kind
    evidence: str
    severity: Literal["error", "warning"]
    remedy: str


@dataclass(frozen=True)
class Verification:
    """What looking at a series found.

    Args:
        source: the series.
        steps: looked at.
        rows: suspects in the order of steps; none for an honest series.
        bytes_read, bytes_stored: what it cost, and what the steps' weights take.
    """

    source: str
    steps: tuple[int, ...]
    rows: tuple[Suspect, ...]
    bytes_read: int
    bytes_stored: int

    @property
    def condemned(self) -> dict[int, str]:
        """The steps that no curve should go through, with the kinds of what is wrong with them.

        Those are the steps with an error; a warning condemns nothing, since its step is what it says it is. Of two
        trainings that a jump tears apart only one can be a curve, so all on its shorter side go (of two equal ones the
        later).
        """
        found: dict[int, str] = {}
        for row in self.rows:
            if row.severity == "error" and row.kind != "jump":
                found[row.step] = f"{found[row.step]}, {row.kind}" if row.step in found else row.kind
        left = [step for step in self.steps if step not in found]
        torn = {left.index(row.step) for row in self.rows if row.kind == "jump" and row.step in left}
        # A jump is told of the step after it, of the first step alone because there is none before.
        cuts = [0, *sorted({place or 1 for place in torn}), len(left)]
        stretches = [left[start:stop] for start, stop in pairwise(cuts)]
        longest = max(stretches, key=len)
        return found | {step: "jump" for stretch in stretches if stretch is not longest for step in stretch}


def verify(series: Series, *, progress: Progress = silent) -> Verification:
    """Look for steps that are damaged, out of place, copied, or no initialisation where one should be.

    Args:
        series: at least one step; order and jumps need three.
        progress: called with how many steps have been looked at.

    Returns:
        Suspects with the evidence; what cannot be read becomes a row, not an error.
    """
    rows: list[Suspect] = []
    checkpoints: dict[int, CheckpointFiles] = {}
    for step in series.steps:
        try:
            checkpoints[step] = series.checkpoint(step)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is this step's, and its row says so)
            rows.append(_failed(step, error))
    rows += _different_tensors(checkpoints)
    rows += _different_configurations({step: checkpoint.config for step, checkpoint in checkpoints.items()})
    sampled = _sampled(checkpoints)
    samples: dict[int, Tensor] = {}
    for done, (step, checkpoint) in enumerate(checkpoints.items(), 1):
        tensors = checkpoint.tensors
        here = [name for name, shape in sampled.items() if name in tensors and tensors[name].shape == shape]
        try:
            found = series.read(step, here, at_most=NUM_ENTRIES)
        except Exception as error:  # noqa: BLE001 (as above)
            rows.append(_failed(step, error))
        else:
            if (problem := not_finite(found)) is not None:
                evidence = f"of the sampled weights, {problem}"
                rows.append(Suspect(step, "not_finite", evidence, "error", "leave out this step and the later ones"))
            elif here and len(here) == len(sampled):
                samples[step] = torch.cat([tensor.double().flatten() for tensor in found.values()])
        progress(f"looking at the steps of {series.source}", done, len(checkpoints))
    reached = [step for step in series.steps if not any(row.step == step and row.kind == "unreachable" for row in rows)]
    rows += _copies(series, reached, samples)
    copied = {row.step for row in rows if row.kind == "identical"}
    rows += _off_the_path({step: sample for step, sample in samples.items() if step not in copied})
    if series.numbered and 0 in samples:
        wrong = {row.step for row in rows if row.severity == "error"}
        path = Path.through({step: sample for step, sample in samples.items() if step not in wrong})
        rows += _not_initial(series, checkpoints[0], list(sampled), fine_tuned=0 in path.steps and _goes_on(path))
    ordered = sorted(rows, key=lambda row: row.step)
    return Verification(series.source, series.steps, tuple(ordered), series.bytes_read, series.bytes_stored)


def _failed(step: int, error: Exception) -> Suspect:
    if isinstance(error, BadInput | RunFailed):
        kind: Kind = "unreadable" if isinstance(error, BadInput) else "unreachable"
        return Suspect(step, kind, error.problem, "error", error.remedy)
    evidence = f"it cannot be read ({cause_of(error)})"
    return Suspect(step, "unreadable", evidence, "error", "fetch or write it again, or leave this step out")


def _different_configurations(configs: Mapping[int, Mapping[str, Any]]) -> Iterator[Suspect]:
    """Steps whose settings are not those of most steps: an error where their weights compute something else by them."""
    told = {step: config for step, config in configs.items() if config}
    for step in configs.keys() - told.keys() if told else ():
        evidence = "it has no config.json, as the others have"
        yield Suspect(step, "config", evidence, "error", "copy the configuration that was saved with its weights")
    for step, odd in odd_settings(told).items():
        decisive = [setting for setting in odd if setting.decisive]
        said = [f"{name} is {here!r} and not {usual!r}" for name, here, usual, _ in (decisive or odd)[:2]]
        more = f"; {len(odd) - len(said)} more settings differ" if odd[len(said) :] else ""
        remedy = "check which model it is" if decisive else "check whether it matters"
        yield Suspect(step, "config", "; ".join(said) + more, "error" if decisive else "warning", remedy)


def _different_tensors(checkpoints: Mapping[int, CheckpointFiles]) -> Iterator[Suspect]:
    """Steps whose tensors' names, shapes or dtypes are not those of most steps."""
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
        said = [f"{old} is missing and {new} of the same shape is there instead" for old, new in renamed[:1]]
        said += [f"{name} is missing" for name in missing[:1] if not renamed]
        said += [f"{name} is there, as in no other step" for name in extra[:1] if not renamed]
        said += [f"{name} is {table[name][0]} and not {usual[name][0]}" for name in reshaped[:1]]
        if said:
            counts = f" ({len(missing)} missing, {len(extra)} new, {len(reshaped)} of another shape)"
            remedy = "leave this step out, or check which model it is"
            yield Suspect(step, "tensors", "; ".join(said) + counts, "error", remedy)
        elif retyped:
            name = retyped[0]
            evidence = f"{name} and {len(retyped) - 1} more are {table[name][1]} and not {usual[name][1]}"
            yield Suspect(step, "tensors", evidence, "warning", "mind that values are rounded differently there")


def _sampled(checkpoints: Mapping[int, CheckpointFiles]) -> dict[str, tuple[int, ...]]:
    """Shapes by name of matrices that most steps have in this shape, evenly spread over the network."""
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
    """Steps that carry the very weights of another one, by hash or number for number."""
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
                evidence = f"it carries the weights of step {owner}: {reason} (steps {', '.join(map(str, steps))})"
                if warmup:
                    evidence += "; one step apart, a warm-up that begins with a rate of 0 does that too"
                remedy = _other_kind(series, step, owner) or "leave this step out, or tell who published the series"
                yield Suspect(step, "identical", evidence, "warning" if warmup else "error", remedy)


def _hashes(series: Series, reached: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Groups of steps whose weight files have the same hashes, in the kind that would be read."""
    groups: dict[tuple[str, ...], list[int]] = {}
    named: dict[tuple[str, ...], str] = {}
    for step in reached:
        try:
            files = series.weight_files(step)
        except BadInput:  # which files are the model is unclear, and a row says so already
            continue
        digests = tuple(file.digest for file in files if file.digest is not None)
        if files and len(digests) == len(files):
            groups.setdefault(digests, []).append(step)
            named[digests] = f"{files[0].name} has the hash {digests[0][:19]}… in each"
    for digests, steps in groups.items():
        if len(steps) > 1:
            yield named[digests], steps


def _owner(steps: list[int], samples: Mapping[int, Tensor]) -> int:
    """Whose weights they are: the step that lies nearest to a neighbour outside the group, or else the last.

    Where the group's steps follow one another they have the same neighbours, and the weights' distances to the two
    are compared with the numbers of steps.
    """
    others = [step for step in samples if step not in steps]
    if not others or steps[0] not in samples:
        return steps[-1]

    def misfit(step: int) -> tuple[float, float]:
        beside = [other for other in others if other < step][-1:] + [other for other in others if other > step][:1]
        lengths = [float((samples[step] - samples[other]).norm()) for other in beside]
        if len(beside) < 2:
            return min(lengths), 0.0
        share = (step - beside[0]) / (beside[1] - beside[0])
        return min(lengths), abs(share - lengths[0] / sum(lengths))

    return min(steps, key=misfit)


def _other_kind(series: Series, step: int, owner: int) -> str | None:
    """Advice to read the step's other files, if their hashes differ where those of the first kind are equal."""
    here, there = series.kinds(step), series.kinds(owner)
    for kind in list(here)[1:]:
        pair = [tuple(file.digest for file in held.get(kind, ())) for held in (here, there)]
        if pair[0] != pair[1] and all(pair) and None not in (*pair[0], *pair[1]):
            return f"its {here[kind][0].name} differs: read that with weights='{kind}'"
    return None


def _off_the_path(samples: Mapping[int, Tensor]) -> Iterator[Suspect]:
    path = Path.through(samples)
    found = list(out_of_line(path))
    for outlier in found:
        yield Suspect(
            outlier.step, "out_of_place", outlier.evidence, "error", "leave this step out, or check where it belongs"
        )
    left = Path.through({step: sample for step, sample in samples.items() if step not in {out.step for out in found}})
    for outlier in torn(left):
        yield Suspect(
            outlier.step, "jump", outlier.evidence, "error", "check that all steps are of one training before comparing"
        )


def _goes_on(path: Path) -> bool:
    """Whether a path begins where it goes on from: with something in common, and not nearer to where it gets later."""
    if len(path.steps) < 3:  # nothing tells how far a step leads
        return False
    later = min(path.distance(0, place) for place in range(2, len(path.steps)))
    return path.cosine(0, 1) > STRANGERS and later > NEARER * path.distance(0, 1)


def _not_initial(
    series: Series, checkpoint: CheckpointFiles, sampled: list[str], *, fine_tuned: bool
) -> Iterator[Suspect]:
    """Signs of training in step 0: scales of norms that are not all alike, singular values beyond chance."""
    norms = [name for name, place in checkpoint.tensors.items() if len(place.shape) == 1 and _NORM.search(name)]
    matrices = [name for name in sampled if len(checkpoint.tensors[name].shape) == 2][:: max(1, len(sampled) // 3)]
    try:
        found = series.read(0, [*norms, *matrices])
    except Exception as error:  # noqa: BLE001 (as above)
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
            f"the scales of {len(varied)} of {len(norms)} norms are not all alike (those of {name} run from "
            f"{low:.4g} to {high:.4g}; an initialisation sets them all to one value)"
        )
    if 2 * len(structured) > len(spread):
        name = max(structured, key=lambda name: spread[name])
        evidence.append(
            f"the largest singular value of {name} is {spread[name]:.2f} times that of independent entries"
            " (1.0 at initialisation)"
        )
    if evidence and fine_tuned:
        evidence.append("the next steps go on from it, as where a trained model is trained further (fine-tuning)")
        remedy = "look for the real initialisation if the model was trained from scratch"
        yield Suspect(0, "not_initialisation", "; ".join(evidence), "warning", remedy)
    elif evidence:
        remedy = "start the series at its next step, or look for the real initialisation"
        yield Suspect(0, "not_initialisation", "; ".join(evidence), "error", remedy)


def _beyond_chance(matrix: Tensor) -> float:
    """The largest singular value over its limit for independent entries of the same spread, at least this."""
    rows, columns = matrix.shape
    by_chance = float(matrix.std()) * (rows**0.5 + columns**0.5)
    if not by_chance > 0:
        return 0.0
    vector = torch.ones(columns) + torch.arange(columns) / columns
    for _ in range(30):  # from below, so that structure is never made up
        vector = matrix.T @ (matrix @ (vector / vector.norm()))
    return float(vector.norm()) ** 0.5 / by_chance
