"""One probe: measure a model on a batch without changing the model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from joma.errors import BadInput, InvalidArgument, cause_of
from joma.measure.capture.calls import LayerMetrics, rounding_of_kernels
from joma.measure.capture.kernels import observing, unwrapped
from joma.measure.capture.layers import projections_of
from joma.measure.capture.transformers import is_observable
from joma.measure.models.projections import Projection
from joma.measure.models.weights import spectral_rows
from joma.records import Row


def attention_rows(model: nn.Module, batch: Any, *, share_window: int | None = None) -> list[Row]:
    """Measure a model's attention on a batch, without an effect on training.

    Args:
        model: any model that ``observing`` supports, also inside wrappers.
        batch: the model's arguments: a mapping of keyword arguments, a tuple of arguments, or one tensor.
        share_window: keys nearer than this count in ``attention_window_share``.

    Returns:
        Rows by layer, metric and head. There are none, but a warning, for a layer whose queries or keys are not finite,
        and for a metric that is undefined for all queries of the batch.

    Raises:
        BadInput: the model cannot read the batch, or has no attention that can be observed.
    """
    found = LayerMetrics(share_window)
    with undisturbed(model), observing(model, found.add, substitute=True) as inner:
        run(inner, batch)
    if not found.of_layers:
        kind, own = type(inner).__name__, any(base.__name__ == "PreTrainedModel" for base in type(inner).__mro__)
        why = ", which does not use transformers' registered attention functions" if own else ""
        raise BadInput(
            f"no attention was observed in {kind}{why}",
            expected="a Transformer that uses transformers' registered attention functions, nn.MultiheadAttention, or "
            "torch's scaled_dot_product_attention",
            remedy="pass its queries and keys to joma.attention_statistics yourself",
        )
    return [row for layer in sorted(found.of_layers) for row in _rows_of(layer, found)]


def weight_rows(model: nn.Module, metrics: Sequence[str], roles: Collection[str]) -> list[Row]:
    """Measure the spectra of a model's projections.

    Args:
        model: of a family in ``joma.measure.models.families``, also inside wrappers.
        metrics: of weights.
        roles: of the projections to measure.

    Returns:
        Rows by layer. There are none, but a warning, for a matrix without such a metric (NaN, zeros).

    Raises:
        BadInput: as ``measured_projections``.
    """
    parameters = dict(unwrapped(model).named_parameters())
    rows: list[Row] = []
    for part in measured_projections(model, roles):
        try:
            rows += spectral_rows(part, part.of(parameters[part.tensor].detach()), metrics)
        except InvalidArgument as error:
            warnings.warn(
                f"joma: {metrics[0]} is undefined for the {part.role} projection of layer {part.layer} "
                f"({part.tensor}): it is {error.problem.split(' is ', 1)[-1]}",
                RuntimeWarning,
                stacklevel=2,
            )
    return rows


def measured_projections(model: nn.Module, roles: Collection[str]) -> list[Projection]:
    """Find the projections with the given roles in a model in memory, by layer.

    Args:
        model: a model of transformers, of torch's encoder layers, or of joma, also inside wrappers.
        roles: of the projections.

    Raises:
        BadInput: a model of no known family, or one without projections of a role.
    """
    model = unwrapped(model)
    found = projections_of(model)
    if missing := [role for role in roles if not any(part.role == role for part in found)]:
        there = ", ".join(dict.fromkeys(part.role for part in found))
        raise BadInput(
            f"{type(model).__name__} has no projection {missing[0]} with a name of a known family "
            "(MLPs may be experts)",
            expected=f"some of {there}",
            remedy=f"leave {missing[0]} out of projections",
        )
    return [part for part in found if part.role in roles]


@contextmanager
def undisturbed(model: nn.Module) -> Generator[None]:
    """Put a model into evaluation mode, uncompiled, without gradients and with a separate random number state.

    The modes of all modules and the random state are restored, also after an exception.
    """
    modules = list(unwrapped(model).modules())
    modes = [module.training for module in modules]
    devices = {parameter.device for parameter in unwrapped(model).parameters()}
    try:
        for module in modules:
            module.training = False  # not ``eval()``, which does more in some models
        accelerators = [device for device in devices if device.type == "cuda"]
        with torch.random.fork_rng(accelerators), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def require_same_when_seen(model: nn.Module, batch: Any) -> None:
    """Raise ``BadInput`` if a model's outputs change while it is observed, for example because its masks are dropped.

    Differences that reordered sums explain are allowed.
    """
    if not is_observable(unwrapped(model)):
        return  # another kernel will be used, whose outputs may differ at padding
    with undisturbed(model):
        plain = run(unwrapped(model), batch)
    with undisturbed(model), observing(model, lambda call: None, substitute=True) as inner:
        seen = run(inner, batch)
    for ours, theirs in zip(_numbers(seen), _numbers(plain), strict=True):
        difference, size = (part.double().nan_to_num(0, 0, 0).norm() for part in (ours - theirs, theirs))
        if difference > rounding_of_kernels(theirs) ** 0.5 * size:
            raise BadInput(
                f"{type(unwrapped(model)).__name__} computes something else while its attention is observed",
                expected="a model that takes its attention function only from the registry of transformers",
                remedy='load it with attn_implementation="eager", or measure only its weights',
            )


def run(model: nn.Module, batch: Any) -> Any:
    """Call a model with a batch, with an output as small as the model allows.

    Raises:
        BadInput: the model cannot read it.
    """
    args, kwargs = arguments_of(batch)
    accepted = signature(type(model).forward).parameters
    for name, value in (("use_cache", False), ("logits_to_keep", 1)):
        if name in accepted and name not in kwargs and "labels" not in kwargs:
            kwargs[name] = value
    try:
        return model(*args, **kwargs)
    except BadInput:
        raise
    except (TypeError, ValueError, IndexError, KeyError, AssertionError, RuntimeError) as error:
        raise BadInput(
            f"the model cannot read the probe batch ({cause_of(error)})",
            expected="a batch as in training, on the model's device",
            remedy="call model(**batch), or model(*batch) for a tuple, to see the error",
        ) from error


def arguments_of(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Split a batch into positional and keyword arguments of a model."""
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,), {}


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    return tuple(moved(value, device) for value in batch) if isinstance(batch, tuple | list) else batch


def _numbers(output: Any) -> list[Tensor]:
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel()]


def _rows_of(layer: int, measured: LayerMetrics) -> list[Row]:
    metrics, named = measured.of_layers[layer], measured.names[layer] or "torch attention"
    found = torch.stack([each.value for each in metrics.values()]).cpu()
    counted = torch.stack([each.num_queries for each in metrics.values()]).cpu()
    if (missing := ~found.isfinite()).any():
        if is_broken := bool((missing & (counted > 0)).any()):
            problem = "has queries or keys that are not finite; its attention is not measured"
        else:
            names = ", ".join(name for name, none in zip(metrics, missing.any(1).tolist(), strict=True) if none)
            problem = f"has no query in the probe batch, except padding, that sees enough keys for {names}"
        warnings.warn(f"joma: layer {layer} ({named}) {problem}", RuntimeWarning, stacklevel=2)
        if is_broken:
            return []
    return [
        Row(layer, head, None, name, value)
        for name, of_heads in zip(metrics, found.tolist(), strict=True)
        for head, value in enumerate(of_heads)
        if math.isfinite(value)
    ]
