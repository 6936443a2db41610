"""Checkpoints and snapshots of a run: safetensors files that are written atomically and verified by a digest.

A run is resumed from a checkpoint; only the last two are kept. A snapshot contains only the weights and is kept
permanently, so that the network of its step can be examined after the run.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from joma.serialization import shaped
from joma.tensorfiles import read_tensors, write_tensors

NUM_KEPT = 2
"""The number of checkpoints that are kept: the newest, and one in case the newest is damaged."""

_NAME = re.compile(r"step_(\d+)\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps.

    Args:
        step: optimiser steps done.
        model: the network's parameters by name.
        optimizer: Adam's moments and counters by parameter name and kind (``blocks.0.value.weight/exp_avg``).
        loss_sum, num_losses: training losses since the last probe.
    """

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    loss_sum: float = 0.0
    num_losses: int = 0


def checkpoint_of(
    step: int, model: nn.Module, optimizer: torch.optim.Optimizer, loss_sum: float, num_losses: int
) -> Checkpoint:
    """Return the state of a network and its optimiser; the tensors are not copied.

    A parameter with two names, such as a head that is tied to the embedding, is stored under the first.
    """
    parameters = dict(model.named_parameters())
    moments = {
        f"{name}/{kind}": value
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }
    return Checkpoint(step, _own_state(model), moments, loss_sum, num_losses)


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the state of a checkpoint into a network and its optimiser."""
    model.load_state_dict({**model.state_dict(), **checkpoint.model})
    for name, parameter in model.named_parameters():
        state = {
            key.rpartition("/")[2]: value.to(parameter.device)
            for key, value in checkpoint.optimizer.items()
            if key.rpartition("/")[0] == name
        }
        if state:
            optimizer.state[parameter] = state


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``step_000500.safetensors`` and remove the checkpoints that are no longer needed.

    Args:
        checkpoint: the state.
        folder: the folder of the file; created if it does not exist.
    """
    facts = {"step": checkpoint.step, "loss_sum": checkpoint.loss_sum, "num_losses": checkpoint.num_losses}
    parts = {"model": checkpoint.model, "optimizer": checkpoint.optimizer}
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    write_tensors(path_of(checkpoint.step, folder), facts, tensors)
    for old in checkpoint_paths(folder)[NUM_KEPT:]:
        old.unlink()


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first."""
    found = [path for path in folder.glob("step_*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def path_of(step: int, folder: Path) -> Path:
    """Return the path of the checkpoint or snapshot of a step."""
    return folder / f"step_{step:06d}.safetensors"


def step_of(path: Path) -> int:
    """Return the step in the file name of a checkpoint."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


def newest_checkpoint(folder: Path, model: nn.Module, *, before: float) -> Checkpoint | None:
    """Return the newest intact checkpoint of a network, or ``None``; others are removed with a warning.

    Args:
        folder: the folder of the checkpoints.
        model: the network.
        before: the next step to be measured; checkpoints of this step and later ones are removed, because the run has
            to be repeated from an earlier one.
    """
    for path in checkpoint_paths(folder):
        if step_of(path) >= before:
            path.unlink()
            continue
        try:
            checkpoint = read_checkpoint(path)
            _require_fit(checkpoint, model)
            return checkpoint
        except ValueError as error:
            warnings.warn(f"{path} is damaged ({error}); the previous checkpoint is used", stacklevel=2)
            path.unlink()
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ValueError: the file is truncated, altered, of another step, or not a checkpoint.
    """
    facts, tensors = _read(path)
    model, optimizer = (
        {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
        for part in ("model/", "optimizer/")
    )
    return Checkpoint(model=model, optimizer=optimizer, **facts._asdict())


def write_snapshot(step: int, model: nn.Module, folder: Path) -> None:
    """Write the weights of a step, ``step_000500.safetensors``, unless an intact snapshot exists."""
    path = path_of(step, folder)
    if not is_whole(path):
        write_tensors(path, {"step": step}, model.state_dict())


def read_snapshot(path: Path) -> dict[str, Tensor]:
    """Read the weights in a snapshot.

    Raises:
        ValueError: the file is missing, truncated, altered, of another step, or not a snapshot.
    """
    return _read(path)[1]


def is_whole(path: Path) -> bool:
    """Whether a checkpoint or snapshot exists and its digest matches."""
    try:
        _read(path)
    except ValueError:
        return False
    return True


class _Facts(NamedTuple):
    """What a file states of its state apart from the tensors; see ``Checkpoint``."""

    step: int
    loss_sum: float = 0.0
    num_losses: int = 0


def _read(path: Path) -> tuple[_Facts, dict[str, Tensor]]:
    facts, tensors = read_tensors(path)
    found = shaped(facts, _Facts)
    if found.step != step_of(path):
        raise ValueError(f"it is of step {found.step}")
    return found, tensors


def _own_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a network, those with two names under the first."""
    first = dict(model.named_parameters())
    shared = {name for name, _ in model.named_parameters(remove_duplicate=False)} - first.keys()
    return {name: tensor for name, tensor in model.state_dict().items() if name not in shared}


def _require_fit(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raise ``ValueError`` unless a checkpoint holds every tensor of a network, and moments of its parameters."""
    own = _own_state(model)
    for name in own.keys() | checkpoint.model.keys():
        here, there = own.get(name), checkpoint.model.get(name)
        if here is None or there is None or (here.shape, here.dtype) != (there.shape, there.dtype):
            raise ValueError(f"it is of another network: its {name} differs")
    for key, moment in checkpoint.optimizer.items():
        parameter = own.get(key.rpartition("/")[0])
        if parameter is None or moment.shape not in (parameter.shape, ()):
            raise ValueError(f"it is of another network: its {key} differs")
