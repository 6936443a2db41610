"""Models with parameters that are sharded over processes, by FSDP2 or by tensor parallelism.

All processes run such a model together. A parameter is a DTensor; FSDP2 puts whole tensors in its place while the layer
runs, so that a parameter that is a DTensor even then is one of tensor parallelism.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from joma.errors import BadInput
from joma.measure.models.families import setting

if TYPE_CHECKING:  # these imports take a second
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


def is_sharded(model: nn.Module) -> bool:
    """Whether the processes have to run a model together."""
    return any(as_dtensor(part) is not None for part in model.parameters())


def require_runnable(model: nn.Module) -> None:
    """Raise ``BadInput`` for parameters that are sharded, but not DTensors: by FSDP's first version, or ZeRO-3."""
    is_flat = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    if is_flat or any(hasattr(part, "ds_id") for part in model.parameters()):
        raise BadInput(
            f"the parameters of this model are sharded over processes by {'FSDP 1' if is_flat else 'ZeRO-3'}, which "
            "keeps them in tensors of its own",
            expected="a complete model in each process, or one sharded by FSDP 2 (fully_shard) or tensor parallelism",
            remedy="use torch's fully_shard, or save checkpoints and measure them: joma scan",
        )


def reshard(model: nn.Module) -> None:
    """Free the whole parameters that FSDP2 gathered for a pass without gradients.

    It would keep those of the root for a backward pass, and after the next optimiser step they would be out of date.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def split_heads(module: nn.Module, q: Tensor) -> DeviceMesh | None:
    """Return the processes among which the heads of an attention module are divided; ``None`` if each has all.

    Args:
        module: attends now.
        q: (B, H, L, E) its queries in this process.

    Raises:
        BadInput: queries that are sharded themselves, or heads that are divided in an unknown way.
    """
    if as_dtensor(q) is not None:
        raise BadInput(
            f"the queries of {type(module).__name__} are DTensors",
            expected="each process's own heads as plain tensors",
            remedy="parallelise the projections with use_local_output=True, or measure checkpoints: joma scan",
        )
    mesh = next((part.device_mesh for part in map(as_dtensor, module.parameters()) if part is not None), None)
    if mesh is None:
        return None
    stated, num_heads = setting(getattr(module, "config", None), "num_attention_heads"), q.shape[1]
    if stated == num_heads:
        return None
    if mesh.ndim == 1 and stated == num_heads * mesh.size():
        return mesh
    raise BadInput(
        f"{type(module).__name__} has {num_heads} heads in each of {mesh.size()} processes, "
        + ("and no configuration says how many it has" if stated is None else f"and its configuration states {stated}"),
        expected="heads divided evenly among the processes of tensor parallelism, and a module with a config that "
        "states num_attention_heads",
        remedy="measure saved checkpoints with joma scan",
    )


def joined_heads(values: Tensor, mesh: DeviceMesh) -> Tensor:
    """Return (…, H) from each process's own heads along the last axis; all processes of the mesh call it."""
    parts = [torch.empty_like(values) for _ in range(mesh.size())]
    torch.distributed.all_gather(parts, values.contiguous(), group=mesh.get_group())
    return torch.cat(parts, dim=-1)


def agreed(condition: bool, model: nn.Module) -> bool:
    """Whether a condition holds in all processes that run a model together."""
    if not is_sharded(model):
        return condition
    flag = torch.tensor(int(condition), device=next(model.parameters()).device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
    return bool(flag)


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, in the same memory."""
    shards = as_dtensor(tensor.detach())
    return tensor.detach() if shards is None else shards.to_local()


def as_dtensor(tensor: Tensor) -> DTensor | None:
    """Return a tensor if it is a DTensor."""
    found: Any = tensor
    return found if hasattr(found, "device_mesh") else None
