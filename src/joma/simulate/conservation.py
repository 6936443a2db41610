"""The drift of Theorem 1's invariant along a simulated training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float

from joma.problem.one_layer import OneLayer, activity
from joma.simulate.trajectory import Trajectory
from joma.theory.embeddings import coherence

_INVARIANTS = {"linear": "z² − Σv²", "exp": "z − Σv²/2T", "softmax": "z − Σ(v² − ‖v‖²b̄)/2T"}
"""Theorem 1's invariant, by the kind of attention."""


@dataclass(frozen=True, eq=False)
class Conservation:
    """The drift of a conserved quantity along a trajectory of P problems, at each time and in each problem.

    Args:
        clock: ``t`` along a flow, ``step`` along a descent.
        times: of the snapshots.
        coherence: of the token embeddings.
        loss: the mean loss over the samples.
        law: the conserved quantity: Theorem 1's invariant, or the exact identity for softmax attention over several
            queries, which Theorem 1 does not cover.
        motion: the change of the attention's part of the conserved quantity, per token.
        residual: the drift of the conserved quantity, per token.
        closed: the largest drift of the exact identity of softmax attention over tokens; ``None`` if ``law`` is that
            identity or it is not known.
    """

    clock: str
    times: Float[torch.Tensor, " T"]
    coherence: Float[torch.Tensor, "..."]
    loss: Float[torch.Tensor, "T P"]
    law: str
    motion: Float[torch.Tensor, "T P M"]
    residual: Float[torch.Tensor, "T P M"]
    closed: Float[torch.Tensor, "T P"] | None

    def relative(self, drift: Float[torch.Tensor, "T P"]) -> Float[torch.Tensor, "T P"]:
        """Return a drift relative to the largest motion of the whole run: 0 if nothing moved, NaN on overflow."""
        moved = self.motion.abs().amax((0, -1)).clamp_min(torch.finfo(drift.dtype).tiny)
        return torch.where(moved.isfinite(), drift / moved, torch.nan)

    identity: ClassVar[str] = "z − Σv²/2T + recoil/T"
    """The exact identity of softmax attention."""

    @property
    def moved(self) -> Float[torch.Tensor, "T P"]:
        """The largest motion over tokens."""
        return self.motion.abs().amax(-1)

    @property
    def drift(self) -> Float[torch.Tensor, "T P"]:
        """The largest drift of the conserved quantity over tokens."""
        return self.residual.abs().amax(-1)


def conservation_of(model: OneLayer, trajectory: Trajectory, clock: str) -> Conservation:
    """Compute the drift of the conserved quantity along a trajectory with one leading axis of problems.

    Raises:
        InvalidArgument: softmax attention over several queries without the recoil integral (descents other than plain
            ones): no conserved quantity is known.
    """
    several = trajectory.attention == "softmax" and model.context.shape[-3] > 1
    closed = trajectory.identities.closed if several or trajectory.recoil_integral is not None else None
    loss = [activity(model, trajectory.parameters(index)).loss for index in range(len(trajectory.times))]
    return Conservation(
        clock=clock,
        times=trajectory.times,
        coherence=torch.as_tensor(coherence(model.context_embedding)),
        loss=torch.stack(loss),
        law=Conservation.identity if several else _INVARIANTS[trajectory.attention],
        motion=trajectory.motion,
        residual=closed if several and closed is not None else trajectory.residual,
        closed=None if several or closed is None else closed.abs().amax(-1),
    )
