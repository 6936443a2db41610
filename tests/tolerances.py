"""The only table of tolerances: every bound that a test uses, with the reason it stands where it stands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be off, and why exactly that far."""

    bound: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {}
