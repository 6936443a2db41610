"""The registry: which claims there are, and how each is put to the test.

A claim file defines one function and registers it; every module of this package but those that claims share is a claim
file and is found by itself.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import joma.claims as package
from joma.errors import BadInput
from joma.theory.references import REFERENCES, Reference

if TYPE_CHECKING:
    from joma.claims.workspace import Workspace
    from joma.records import Agreement

_SHARED = frozenset(
    {"registry", "workspace", "evaluation", "text.networks", "hierarchy.association", "hierarchy.levels"}
    | {"series.subjects", "series.subject", "series.published"}
)


@dataclass(frozen=True)
class Claim:
    """A statement and its test.

    Args:
        reference: the statement, its source, its assumptions.
        test: how it is tested, in a sentence or two.
        control: where the same test must fail, in a sentence.
        needs_text: whether networks are trained on the text.
        evaluate: does it; may train networks through the workspace and keeps no state of its own.
    """

    reference: Reference
    test: str
    control: str
    needs_text: bool
    evaluate: Callable[[Workspace], Agreement]

    @property
    def id(self) -> str:
        """The claim's id."""
        return self.reference.id


_claims: dict[str, Claim] = {}


def claim(
    id: str, *, test: str, control: str, needs_text: bool = False
) -> Callable[[Callable[[Workspace], Agreement]], Callable[[Workspace], Agreement]]:
    """Register the decorated function as the test of the statement ``id`` of ``joma.theory.references``."""

    def register(evaluate: Callable[[Workspace], Agreement]) -> Callable[[Workspace], Agreement]:
        if id in _claims and _claims[id].evaluate.__module__ != evaluate.__module__:
            raise RuntimeError(f"claim {id} is registered twice, in {evaluate.__module__} too")
        _claims[id] = Claim(REFERENCES[id], test, control, needs_text, evaluate)
        return evaluate

    return register


def all_claims() -> dict[str, Claim]:
    """Every claim by id, in the order of ``REFERENCES``."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.removeprefix(f"{package.__name__}.") not in _SHARED:
            importlib.import_module(module.name)
    return {id: _claims[id] for id in REFERENCES if id in _claims}


def select(ids: Iterable[str]) -> list[Claim]:
    """The claims named: an id, or the start of several up to a dot (``theorem1``); all where none is named.

    Raises:
        BadInput: an id that no claim has, with the nearest that one does.
    """
    claims = all_claims()
    wanted = list(ids)
    if not wanted:
        return list(claims.values())
    chosen: dict[str, Claim] = {}
    for name in wanted:
        found = {id: entry for id, entry in claims.items() if id == name or id.startswith(f"{name}.")}
        if not found:
            families = {id.split(".")[0] for id in claims}
            near = difflib.get_close_matches(name, [*claims, *families], n=1, cutoff=0.3)
            raise BadInput(
                f"there is no claim {name!r}",
                expected="a claim id or family",
                remedy=f"did you mean {near[0]!r}? `joma reproduce --list` names them all"
                if near
                else "`joma reproduce --list` names them all",
            )
        chosen |= found
    return [entry for id, entry in claims.items() if id in chosen]
