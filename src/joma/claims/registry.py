"""The registry of claims: joma's own and those that other installed packages provide."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from joma.claims import anomaly, dynamics, hierarchy, image, recommendation, rhm, series, text, theorem1
from joma.claims.claim import Claim
from joma.errors import BadInput, cause_of

SUBJECTS = {
    "the mathematics": (*theorem1.CLAIMS, *dynamics.CLAIMS),
    "small networks that read text": text.CLAIMS,
    "series of saved steps": series.CLAIMS,
    "hierarchies and the networks that learn them": (*hierarchy.CLAIMS, *rhm.CLAIMS),
    "tables and their anomalies": anomaly.CLAIMS,
    "recommendation": recommendation.CLAIMS,
    "networks that learn pictures": image.CLAIMS,
}
"""The claims of joma itself by what they are about."""

OWN = tuple(claim for claims in SUBJECTS.values() for claim in claims)
"""The same in the order in which they are listed and evaluated."""


@cache
def all_claims() -> Mapping[str, Claim]:
    """Return every claim by id: joma's own, then those of other packages.

    An entry point of the group ``joma.claims`` is a ``Claim`` or a sequence of them. One that cannot be loaded, or
    whose ids exist already, is skipped with a warning.
    """
    claims = {claim.id: claim for claim in OWN}
    for entry in sorted(entry_points(group="joma.claims"), key=lambda entry: (_origin(entry), entry.name)):
        try:
            claims |= _loaded(entry, claims)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - any error of another package costs a warning, not the run
            reason = f"its entry point {entry.name} = {entry.value} cannot be used ({cause_of(error)})"
            warnings.warn(f"{_origin(entry)} is left out: {reason}; repair or uninstall it", stacklevel=2)
    return claims


def _loaded(entry: EntryPoint, taken: Container[str]) -> dict[str, Claim]:
    """Import the claims of an entry point; errors of the package pass through."""
    loaded = entry.load()
    found: dict[str, Claim] = {}
    for claim in loaded if isinstance(loaded, Sequence) else [loaded]:
        if not isinstance(claim, Claim):
            raise TypeError(f"{claim!r} is no Claim")
        if claim.id in taken or claim.id in found:
            raise ValueError(f"there is another claim {claim.id}")
        found[claim.id] = replace(claim, origin=_origin(entry))
    return found


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


EVERY = "all"
"""What names every claim; without a name, only those that are evaluated by default are meant."""


def select(ids: Iterable[str]) -> list[Claim]:
    """Return the claims with these ids.

    Args:
        ids: ids, the part of ids before a dot (``theorem1``), or ``all``; the claims ``by_default`` where empty.

    Raises:
        BadInput: an id that does not exist; the message suggests the nearest one.
    """
    claims = all_claims()
    wanted = list(ids)
    for name in wanted:
        if not isinstance(name, str):
            received, remedy = f"a claim id is {name!r}", "pass ids one by one: reproduce('theorem3', 'theorem4')"
            raise BadInput(received, expected="a text", remedy=remedy)
        if name != EVERY and not any(_names(name, id) for id in claims):
            families = {id.split(".")[0] for id in claims}
            near = difflib.get_close_matches(name, [*claims, *families], n=1, cutoff=0.3)
            remedy = "".join(f"did you mean {other!r}? " for other in near) + "`joma reproduce --list` names them all"
            raise BadInput(f"there is no claim {name!r}", expected="a claim id or family", remedy=remedy)
    if not wanted:
        return [claim for claim in claims.values() if claim.by_default]
    return [claim for id, claim in claims.items() if any(name == EVERY or _names(name, id) for name in wanted)]


def _names(name: str, id: str) -> bool:
    return id == name or id.startswith(f"{name}.")
