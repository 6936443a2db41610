"""Checks of a series that need no weights: tables of contents, configurations, tokenizers and missing steps."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from joma.errors import BadInput, RunFailed
from joma.measure.models.configurations import odd_settings
from joma.measure.scan.suspects import Suspect, listed
from joma.saved.series import CheckpointFiles, Series

FEWEST_EVEN = 3
"""Intervals of one length, around a longer one, from which a row of steps counts as even."""

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
_COMPUTED = ("model", "normalizer", "pre_tokenizer", "added_tokens")
"""Parts of tokenizer.json that decide which token a text becomes; the others are padding, truncation and versions."""

_MOST_VOCABULARY, _MOST_DECODED = 1 << 26, 1 << 24
"""Bytes of a file that is compared, and of JSON that is decoded for it; longer JSON is compared as it is written."""


def different_configurations(configs: Mapping[int, Mapping[str, Any]]) -> Iterator[Suspect]:
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


def usual_shapes(checkpoints: Mapping[int, CheckpointFiles]) -> dict[str, tuple[int, ...]]:
    """Return the shapes by name of the tensors that most steps have."""
    counts = Counter(
        (name, place.shape) for checkpoint in checkpoints.values() for name, place in checkpoint.tensors.items()
    )
    return {name: shape for (name, shape), count in counts.items() if 2 * count > len(checkpoints)}


def different_tensors(checkpoints: Mapping[int, CheckpointFiles]) -> Iterator[Suspect]:
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


def different_tokenizers(series: Series, reached: list[int]) -> Iterator[Suspect]:
    """Find steps whose tokenizer gives other tokens than that of most steps that have one."""
    computed: dict[str, str | None] = {}  # by the hash of a file, where a hub gives one
    for name in _VOCABULARIES:
        contents = {}
        for step in reached:
            stored = series.files(step).get(name)
            if stored is None or stored.size > _MOST_VOCABULARY:
                continue
            key = stored.digest or f"{name} of {step}"
            if key not in computed:
                computed[key] = _vocabulary(series, step, name)
            if (content := computed[key]) is not None:
                contents[step] = content
        counts = Counter(contents.values()).most_common()
        for step, content in contents.items():
            if content != counts[0][0]:
                others = f"{counts[0][1]} of {len(contents)} steps share another one"
                evidence = f"its {name} gives other tokens for the same text: {others}"
                yield Suspect(
                    step, "tokenizer", evidence, "error", "read this step with the tokenizer it was trained with"
                )


def _vocabulary(series: Series, step: int, name: str) -> str | None:
    """Return a digest of what a tokenizer's file computes; ``None`` if it cannot be read."""
    try:
        content = series.content(step, name)
    except (BadInput, RunFailed):  # a model can be measured on the tokens of another step's tokenizer
        return None
    if name.endswith(".json") and len(content) <= _MOST_DECODED:
        try:
            read = json.loads(content)
            parts = {part: read.get(part) for part in _COMPUTED} if "model" in read else read
            content = json.dumps(parts, sort_keys=True).encode()
        except (ValueError, RecursionError, AttributeError, TypeError):  # compared as it is written
            pass
    return hashlib.sha256(content).hexdigest()


def gaps(steps: tuple[int, ...]) -> Iterator[Suspect]:
    """Find missing steps in an even row of steps.

    A row is even around an interval if at least three of the two intervals on each side (of three at an end) have one
    length, those next to it among them; the interval is a gap if it is a multiple of that length.
    """
    intervals = [(start, stop, stop - start) for start, stop in pairwise(steps)]
    for place, (start, stop, length) in enumerate(intervals):
        before, after = intervals[:place], intervals[place + 1 :]
        near = [*before[-2 if after else -3 :], *after[: 2 if before else 3]]
        lengths = Counter(other for *_, other in near)
        usual, count = lengths.most_common(1)[0] if lengths else (length, 0)
        next_to_it = {other for *_, other in (*before[-1:], *after[:1])}
        if count < FEWEST_EVEN or next_to_it != {usual} or length == usual or length % usual:
            continue
        missing = [f"{step:,}" for step in range(start + usual, stop, usual)]
        evidence = (
            f"the steps around it are {usual:,} apart, but there is nothing between {start:,} and {stop:,} "
            f"(missing: {listed(missing, 4)}); a fault, a spike or an extremum in between would not be seen"
        )
        remedy = "look for the missing revisions or folders, or read curves there as a straight line by assumption"
        yield Suspect(start + usual, "gap", evidence, "warning", remedy)
