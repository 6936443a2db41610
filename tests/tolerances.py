"""The only table of tolerances: every bound that a test uses, with the reason it stands where it stands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be off, and why exactly that far."""

    bound: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "rebound.noisy": Tolerance(
        0.08, "levels are means over three probes of a curve that moves 0.067 a probe, with noise 0.05"
    ),
    "rebound.by_chance": Tolerance(0.35, "share of a real rebound that chance may reach with eight seeds of 60 probes"),
    "text.held_out_share": Tolerance(
        0.001, "a cut moves to the end of its paragraph, 35 of the 6,000 characters of a block"
    ),
}
