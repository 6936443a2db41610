"""What becomes, along a simulated training, of the quantity that Theorem 1 says is constant."""

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
    """How well a law is obeyed along a trajectory of P problems, at each time and in each of them.

    Args:
        clock: ``t`` along a flow, ``step`` along a descent.
        times: of the snapshots.
        coherence: of the token embeddings.
        loss: the mean loss over the samples.
        law: what should stay constant: Theorem 1's invariant, or with softmax attention over several queries, of which
            Theorem 1 says nothing, the exact identity.
        motion: how far the attention's side of the law has moved, per token.
        residual: how far the law has drifted, per token.
        closed: how far the exact identity of softmax attention has drifted, largest over tokens; where there is one.
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
        """A drift relative to the largest motion of the whole run: 0 where nothing moved, NaN where that overflowed."""
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
        """The largest drift of the law over tokens."""
        return self.residual.abs().amax(-1)


def conservation_of(model: OneLayer, trajectory: Trajectory, clock: str) -> Conservation:
    """Hold a trajectory of one leading axis of problems against its law.

    Raises:
        InvalidArgument: softmax attention over several queries where the recoil was not integrated (descents other
            than plain ones): there is no law to hold it against.
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
