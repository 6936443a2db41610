"""The result of a simulation: snapshots of all parameters, and the quantities of Theorem 1 along them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float

from joma.errors import BadInput, InvalidArgument, RunFailed
from joma.problem.attention import AttentionKind, attention_weights
from joma.problem.one_layer import OneLayer, Parameters, token_weights
from joma.records import Status
from joma.serialization import shaped
from joma.tensorfiles import read_tensors, write_tensors
from joma.theory.invariants import SoftmaxIdentities, invariant, invariant_residual, softmax_identities


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Snapshots along a gradient flow or a gradient descent; the first one is the initial state.

    Args:
        times: time along a flow; the number of steps done along a descent.
        weights: W.
        attention_logits: z of each query.
        token_weights: V = U_Cᵀ W.
        mean_attention: b̄ of each query over all its samples.
        upper: the upper layer, if the model has one.
        recoil_integral: ∫ Σₖ E[gₖ φ′ₖ b bᵀ] vₖ dt; only for softmax attention along the full flow or plain descent.
        attention, temperature: of the model.
        status: how the simulation ended; after a failure, the snapshots before it are kept.
    """

    times: Float[torch.Tensor, " T"]
    weights: Float[torch.Tensor, "T *batch D K"]
    attention_logits: Float[torch.Tensor, "T *batch Q M"]
    token_weights: Float[torch.Tensor, "T *batch M K"]
    mean_attention: Float[torch.Tensor, "T *batch Q M"]
    upper: Float[torch.Tensor, "T *batch K O"] | None
    recoil_integral: Float[torch.Tensor, "T *batch Q M"] | None
    attention: AttentionKind
    temperature: float
    status: Status

    @property
    def invariant(self) -> Float[torch.Tensor, "T *batch M"]:
        """Theorem 1's invariant; with softmax attention, b̄ is that of the first time."""
        return invariant(*self._seen(), self._constant_mean())

    @property
    def residual(self) -> Float[torch.Tensor, "T *batch M"]:
        """The drift of the invariant since the first time."""
        return invariant_residual(*self._seen(), self._constant_mean())

    @property
    def motion(self) -> Float[torch.Tensor, "T *batch M"]:
        """The change of the attention's part of the invariant: z (summed over queries), or z² if linear."""
        power = 2 if self.attention == "linear" else 1
        side = self.attention_logits.pow(power).sum(-2)
        return side - side[:1]

    @property
    def identities(self) -> SoftmaxIdentities:
        """The drift of the two exact identities of softmax attention.

        Raises:
            InvalidArgument: the trajectory has no recoil integral.
        """
        if self.recoil_integral is None:
            raise InvalidArgument(
                "Trajectory.identities",
                "self",
                required="a trajectory of softmax attention along the full flow or plain gradient descent",
                received=f"one of {self.attention} attention without a recoil integral",
                remedy="integrate the full flow, or use descent with optimizer='sgd'",
            )
        return softmax_identities(self.token_weights, self.attention_logits, self.recoil_integral, self.temperature)

    def complete(self) -> Trajectory:
        """Return the trajectory itself if it reached its last time.

        Raises:
            RunFailed: the simulation stopped earlier.
        """
        if not self.status.ok:
            kept = f"{len(self.times)} snapshots up to {float(self.times[-1]):g} are kept"
            raise RunFailed(f"the simulation stopped: {self.status.cause}", kept=kept, remedy=self.status.remedy)
        return self

    def parameters(self, index: int) -> Parameters:
        """Return the parameters of one snapshot."""
        return Parameters(
            self.weights[index], self.attention_logits[index], None if self.upper is None else self.upper[index]
        )

    def _seen(self) -> tuple[torch.Tensor, torch.Tensor, AttentionKind, float]:
        return self.token_weights, self.attention_logits, self.attention, self.temperature

    def _constant_mean(self) -> torch.Tensor | None:
        return self.mean_attention[:1].squeeze(-2) if self.attention == "softmax" else None


def trajectory_of(
    model: OneLayer,
    times: Float[torch.Tensor, " T"],
    snapshots: Parameters,
    recoil_integral: Float[torch.Tensor, "T *batch Q M"] | None,
    status: Status,
) -> Trajectory:
    """Return the trajectory with these snapshots (each tensor with time as its first axis)."""
    logits = snapshots.attention_logits
    means = [attention_weights(model.context, now, model.attention, model.temperature).mean(-2) for now in logits]
    return Trajectory(
        times=times,
        weights=snapshots.weights,
        attention_logits=logits,
        token_weights=token_weights(snapshots.weights, model.context_embedding),
        mean_attention=torch.stack(means),
        upper=snapshots.upper,
        recoil_integral=recoil_integral,
        attention=model.attention,
        temperature=model.temperature,
        status=status,
    )


def save_trajectory(trajectory: Trajectory, path: Path) -> None:
    """Write a trajectory as one safetensors file, atomically."""
    values = {field.name: getattr(trajectory, field.name) for field in fields(trajectory)}
    tensors = {name: value.contiguous() for name, value in values.items() if isinstance(value, torch.Tensor)}
    settings = {name: values[name] for name in ("attention", "temperature")} | {"status": asdict(trajectory.status)}
    write_tensors(path, settings, tensors)


class _Settings(NamedTuple):
    """The fields of ``Trajectory`` that are no tensors."""

    attention: AttentionKind
    temperature: float
    status: Status


def load_trajectory(path: Path) -> Trajectory:
    """Read a trajectory that ``save_trajectory`` wrote.

    Raises:
        BadInput: the file does not exist, was altered or is not a complete trajectory.
    """
    try:
        facts, tensors = read_tensors(path)
        settings = shaped(facts, _Settings)._asdict()
        parts: dict[str, Any] = {"upper": None, "recoil_integral": None, **tensors, **settings}
        return Trajectory(**parts)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read as a trajectory ({error})",
            expected="a file written by save_trajectory",
            remedy="simulate it again, or check the name",
        ) from error
