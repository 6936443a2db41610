"""One probe: measure a model on a batch without changing the model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from joma.errors import BadInput, InvalidArgument, cause_of
from joma.measure.capture.calls import LayerMetrics
from joma.measure.capture.checking import KernelChecks, check_kernels
from joma.measure.capture.kernels import observing, unwrapped
from joma.measure.capture.layers import projections_of
from joma.measure.capture.outputs import agree, changed_by_observation
from joma.measure.capture.sharded import as_dtensor, reshard
from joma.measure.capture.transformers import is_observable
from joma.measure.models.experts import unread_experts, with_means
from joma.measure.models.projections import Projection
from joma.measure.models.weights import gram_rows, spectral_rows
from joma.measure.spectra.grams import Gram, summed_gram
from joma.measure.watch.activations import Activations
from joma.records import Row


class AttentionProbe:
    """Measures a model's attention on a batch, repeatedly, without an effect on training, by the call that was given.

    The first measurement compares the outputs of the observed model with those of the unobserved one. It also checks
    whether it stays the same if the model returns the last logits alone; if so, later ones omit the others.

    Args:
        model: any model that ``observing`` supports, also inside wrappers.
        batch: the model's arguments: a mapping of keyword arguments, a tuple of arguments, or one tensor.
        share_window: keys nearer than this count in ``attention_window_share``.
        with_activations: whether to measure ``largest_activation`` too.
    """

    def __init__(
        self, model: nn.Module, batch: Any, *, share_window: int | None = None, with_activations: bool = False
    ) -> None:
        self._model, self._batch, self._share_window = model, batch, share_window
        self._activations = Activations(unwrapped(model)) if with_activations else None
        self._added: dict[str, Any] | None = None  # arguments that do not change the measurements

    def rows(self) -> list[Row]:
        """Measure.

        Returns:
            Rows by layer, metric and head. There are none, but a warning, for a layer whose queries or keys are not
            finite, and for a metric that is undefined for all queries of the batch.

        Raises:
            BadInput: the model cannot read the batch, has no attention that can be observed, or computes something else
                while it is observed.
        """
        if self._added is not None:
            return self._observed(self._added)[1]
        model = unwrapped(self._model)
        takes, (_, given) = signature(type(model).forward).parameters, arguments_of(self._batch)
        added, rows = self._unchanged(takes)
        if "logits_to_keep" in takes and given.keys().isdisjoint(("labels", "logits_to_keep")):
            shorter = {**added, "logits_to_keep": 1}
            added = shorter if self._observed(shorter)[1] == rows else added
        self._added = added
        return rows

    def check(self) -> KernelChecks:
        """Check the model's attention kernels on the batch (``check_kernels``)."""
        with undisturbed(self._model):
            return check_kernels(self._model, lambda model: run(model, self._batch))

    def _unchanged(self, takes: Container[str]) -> tuple[dict[str, Any], list[Row]]:
        """Return further arguments, if needed, with which the observed model computes the same as the unobserved one.

        A substitute for the model's own attention function may treat padding in another way, which is not compared, and
        distinguishes packed documents only without a cache.
        """
        model, choices, kept = unwrapped(self._model), [{}], None

        def plain() -> Any:
            with undisturbed(model):
                return run(model, self._batch)

        if not is_observable(model):
            mask = arguments_of(self._batch)[1].get("attention_mask")
            kept = mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None
            choices += [{"use_cache": False}] if "use_cache" in takes else []
        expected = plain()
        for added in choices:
            output, rows = self._observed(added)
            if agree(output, expected, kept):
                return added, rows
        raise changed_by_observation(model, expected, plain)

    def _observed(self, added: dict[str, Any]) -> tuple[Any, list[Row]]:
        """Return the output of the observed model, and its attention."""
        found = LayerMetrics(self._share_window)
        largest = nullcontext() if self._activations is None else self._activations.observed(*arguments_of(self._batch))
        with undisturbed(self._model), observing(self._model, found.add, substitute=True) as inner, largest:
            output = run(inner, self._batch, added)
        if not found.of_layers:
            kind, own = type(inner).__name__, any(base.__name__ == "PreTrainedModel" for base in type(inner).__mro__)
            why = ", which does not use transformers' registered attention functions" if own else ""
            raise BadInput(
                f"no attention was observed in {kind}{why}",
                expected="a Transformer that uses transformers' registered attention functions, "
                "nn.MultiheadAttention, or torch's scaled_dot_product_attention",
                remedy="pass its queries and keys to joma.attention_statistics yourself",
            )
        rows = [row for layer in sorted(found.of_layers) for row in _rows_of(layer, found)]
        return output, rows if self._activations is None else [*rows, *self._activations.rows(found.names)]


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
        tensor = parameters[part.tensor].detach()
        if (gram := _summed(part, tensor)) is not None:
            rows += rows_or_warning(part, metrics[0], lambda one=part, of=gram: gram_rows(one, of, metrics))
            continue
        shards = as_dtensor(tensor)
        for piece, matrices in part.pieces(part.of(tensor if shards is None else shards.full_tensor())):
            rows += rows_or_warning(piece, metrics[0], lambda one=piece, of=matrices: spectral_rows(one, of, metrics))
    return list(with_means(rows))


def rows_or_warning(part: Projection, metric: str, measure: Callable[[], Iterable[Row]]) -> list[Row]:
    """Return the rows of a projection; none, but a warning, for a matrix without such a metric (NaN, zeros)."""
    try:
        return list(measure())
    except InvalidArgument as error:
        warnings.warn(
            f"joma: {metric} is undefined for the {part.role} projection of layer {part.layer} "
            f"({part.tensor}{f', {part.part}' if part.part else ''}): it is {error.problem.split(' is ', 1)[-1]}",
            RuntimeWarning,
            stacklevel=3,
        )
        return []


def _summed(part: Projection, tensor: Tensor) -> Gram | None:
    """Return the Gram matrix of the smaller side of a sharded projection, if it is a sum over the shards."""
    shards = as_dtensor(tensor)
    if shards is None or shards.dim() != 2 or not part.is_whole:
        return None
    cuts = [(dim, placement) for dim, placement in enumerate(shards.placements) if not placement.is_replicate()]
    axis = getattr(cuts[0][1], "dim", None) if len(cuts) == 1 else None
    if axis is None or shards.shape[axis] < shards.shape[1 - axis]:
        return None
    return summed_gram(shards.to_local(), axis, shards.shape[axis], shards.device_mesh.get_group(cuts[0][0]))


def measured_projections(model: nn.Module, roles: Collection[str]) -> list[Projection]:
    """Find the projections with the given roles in a model in memory, by layer.

    Args:
        model: a model of transformers, of torch's encoder layers, or of joma, also inside wrappers.
        roles: of the projections.

    Raises:
        BadInput: a model of no known family, or one without projections of a role; adapters within a projection.
    """
    model = unwrapped(model)
    found = projections_of(model)
    warn_of_experts(model, found)
    if missing := [role for role in roles if not any(part.role == role for part in found)]:
        there = ", ".join(dict.fromkeys(part.role for part in found))
        raise BadInput(
            f"{type(model).__name__} has no projection {missing[0]} with a name of a known family",
            expected=f"some of {there}",
            remedy=f"leave {missing[0]} out of projections",
        )
    chosen = [part for part in found if part.role in roles]
    matrices = [name for name, parameter in model.named_parameters() if parameter.dim() > 1]
    for owner in {part.tensor.removesuffix("weight") for part in chosen if part.tensor.endswith(".weight")}:
        if adapters := [name for name in matrices if name.startswith(owner) and name != f"{owner}weight"]:
            raise BadInput(
                f"{owner}weight is not all of its projection: {adapters[0]} belongs to it, as in an adapter",
                expected="projections of one matrix",
                remedy="merge the adapters and measure the merged model, or measure only attention",
            )
    return chosen


def warn_of_experts(model: nn.Module, found: Iterable[Projection], why: str = "their names are unknown") -> None:
    """Warn of experts in a model that are none of its projections."""
    if unread := unread_experts(dict(unwrapped(model).named_parameters()), found):
        what = f"{len(unread)} tensors of experts are not measured (such as {unread[0]}): {why}"
        warnings.warn(f"joma: {what}", RuntimeWarning, stacklevel=3)


@contextmanager
def undisturbed(model: nn.Module) -> Generator[None]:
    """Put a model into evaluation mode, uncompiled, without gradients and with a separate random number state.

    As in training, encoder layers of torch run without fusion, and models with gradient checkpointing without a cache.
    All is restored, also after an exception.
    """
    modules = list(unwrapped(model).modules())
    modes = [module.training for module in modules]
    is_fused = torch.backends.mha.get_fastpath_enabled()
    cached: list[Any] = [module.config for module in modules if _is_checkpointed(model) and _has_cache(module)]
    devices = {parameter.device for parameter in unwrapped(model).parameters()}
    try:
        for module in modules:
            module.training = False  # not ``eval()``, which does more in some models
        for config in cached:
            config.use_cache = False
        torch.backends.mha.set_fastpath_enabled(False)
        accelerators = [device for device in devices if device.type == "cuda"]
        with torch.random.fork_rng(accelerators), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        reshard(unwrapped(model))
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for config in cached:
            config.use_cache = True
        torch.backends.mha.set_fastpath_enabled(is_fused)


def run(model: nn.Module, batch: Any, added: Mapping[str, Any] | None = None) -> Any:
    """Call a model with a batch and further keyword arguments; with a copy of a cache, which the model would extend.

    Raises:
        BadInput: the model cannot read it.
    """
    args, kwargs = arguments_of(batch)
    kwargs |= added or {}
    kwargs |= {name: deepcopy(value) for name, value in kwargs.items() if hasattr(value, "get_seq_length")}
    if kwargs.get("use_cache") and _is_checkpointed(model):
        kwargs["use_cache"] = False
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


def _is_checkpointed(model: nn.Module) -> bool:
    """Whether gradient checkpointing is on, with which transformers trains without a cache."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _has_cache(module: nn.Module) -> bool:
    return getattr(getattr(module, "config", None), "use_cache", None) is True


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
