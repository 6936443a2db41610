"""The registry: which claims there are, joma's own and those of other packages."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from joma.claims import dynamics, hierarchy, series, text, theorem1
from joma.claims.claim import Claim
from joma.errors import BadInput, cause_of

GROUP = "joma.claims"
"""The entry points that bring claims: each names a ``Claim``, or a sequence of them."""

OWN = tuple(claim for subject in (theorem1, dynamics, text, series, hierarchy) for claim in subject.CLAIMS)
"""The claims of joma itself, in the order in which they are listed and evaluated."""


@cache
def all_claims() -> Mapping[str, Claim]:
    """Every claim by id: joma's own, then those that other packages bring.

    Where one of these cannot be loaded, or its ids are taken, a warning says so and the others are there.
    """
    claims = {claim.id: claim for claim in OWN}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (_origin(entry), entry.name)):
        try:
            brought = _loaded(entry, claims)
        except Exception as error:  # noqa: BLE001 - another package's code must not cost the run
            reason = f"its entry point {entry.name} = {entry.value} cannot be used ({cause_of(error)})"
            warnings.warn(f"{_origin(entry)} is left out: {reason}; repair or uninstall it", stacklevel=2)
        else:
            claims |= brought
    return claims


def _loaded(entry: EntryPoint, taken: Container[str]) -> dict[str, Claim]:
    """The claims of an entry point by id, or whatever its package raises."""
    loaded = entry.load()
    found: dict[str, Claim] = {}
    for claim in [loaded] if isinstance(loaded, Claim) else loaded:
        if not isinstance(claim, Claim):
            raise TypeError(f"{claim!r} is no Claim")
        if claim.id in taken or claim.id in found:
            raise ValueError(f"there is another claim {claim.id}")
        found[claim.id] = replace(claim, origin=_origin(entry))
    return found


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


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
                remedy="".join(f"did you mean {other!r}? " for other in near)
                + "`joma reproduce --list` names them all",
            )
        chosen |= found
    return [entry for id, entry in claims.items() if id in chosen]
