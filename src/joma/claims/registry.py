"""The registry: which claims there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from joma.claims import dynamics, hierarchy, series, text, theorem1
from joma.claims.claim import Claim
from joma.errors import BadInput

OWN = tuple(claim for subject in (theorem1, dynamics, text, series, hierarchy) for claim in subject.CLAIMS)
"""The claims of joma itself, in the order in which they are listed and evaluated."""


def all_claims() -> Mapping[str, Claim]:
    """Every claim by id."""
    return {claim.id: claim for claim in OWN}


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
