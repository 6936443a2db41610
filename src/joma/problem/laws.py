"""Read the law of a hierarchy back from plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from joma.errors import BadInput, cause_of
from joma.problem.combinatorial import Combinatorial
from joma.problem.tree import LatentTree
from joma.problem.unrelated import UnrelatedLabels

AnyLaw = LatentTree | Combinatorial | UnrelatedLabels

KINDS: Mapping[str, type[LatentTree] | type[Combinatorial] | type[UnrelatedLabels]] = {
    "latent_tree": LatentTree,
    "combinatorial": Combinatorial,
    "unrelated_labels": UnrelatedLabels,
}


def law_from_json(data: Any) -> AnyLaw:
    """Rebuild what a law's ``to_json`` wrote.

    Raises:
        BadInput: the data is not a law, or one that cannot be.
    """
    name = data.get("kind") if isinstance(data, Mapping) else f"{type(data).__name__}, no mapping"
    if not isinstance(name, str) or name not in KINDS:
        raise _unreadable(f"the kind is {name!r}", f"a mapping whose kind is one of {', '.join(KINDS)}")
    kind = KINDS[name]
    wanted = {field.name for field in fields(kind)}
    given = set(data) - {"kind"}
    if given != wanted:
        what = [f"no {name}" for name in sorted(wanted - given)] + [
            f"unknown {name}" for name in sorted(given - wanted)
        ]
        raise _unreadable(", ".join(what), f"the entries {', '.join(sorted(wanted))}")
    try:
        values: dict[str, Any] = {
            name: law_from_json(data[name]) if name == "law" else _frozen(data[name]) for name in wanted
        }
        return kind(**values)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        raise _unreadable(cause_of(error), "numbers where numbers stand, and lists where lists stand") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list | tuple) else value


def _unreadable(problem: str, expected: str) -> BadInput:
    return BadInput(
        f"this is no law of a hierarchy: {problem}",
        expected=expected,
        remedy="write the file again with the law's to_json",
    )
