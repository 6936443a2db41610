"""The stable rank of the gradient of the loss on the probe batch; the gradients of training are not touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from joma.errors import BadInput
from joma.measure.capture.kernels import unwrapped
from joma.measure.capture.sharded import is_sharded
from joma.measure.models.experts import with_means
from joma.measure.models.weights import spectral_rows
from joma.measure.watch.probing import measured_projections, rows_or_warning, run, undisturbed
from joma.records import Row

NAME = "gradient_stable_rank"


def gradient_rows(model: nn.Module, batch: Any, roles: Collection[str]) -> list[Row]:
    """Measure the gradients of a model's projections, by one forward and one backward pass in evaluation mode.

    Args:
        model: of a known family, also inside wrappers.
        batch: the model's arguments, with which it returns a loss.
        roles: of the projections to measure; those of frozen weights are left out.

    Returns:
        Rows by layer. An expert that no token of the batch reaches has no gradient and no row.

    Raises:
        BadInput: as ``measured_projections``; no loss, only frozen weights, or sharded parameters.
    """
    inner = unwrapped(model)
    if is_sharded(inner):
        raise _bad(
            "the parameters of this model are sharded, so that a backward pass would add to their gradients",
            "a complete model in each process",
        )
    parameters = dict(inner.named_parameters())
    parts = [part for part in measured_projections(model, roles) if parameters[part.tensor].requires_grad]
    if not parts:
        raise _bad("all projections of these roles are frozen", "projections that are trained")
    names = list(dict.fromkeys(part.tensor for part in parts))
    with undisturbed(model), torch.enable_grad():
        loss = _loss_of(run(inner, batch))
        found = torch.autograd.grad(loss, [parameters[name] for name in names], allow_unused=True)
    gradients = dict(zip(names, found, strict=True))
    rows: list[Row] = []
    for part in parts:
        if (gradient := gradients[part.tensor]) is not None:
            for piece, of in part.pieces(part.of(gradient)):
                if of.any() or part.part != "experts":
                    rows += rows_or_warning(
                        piece, NAME, lambda one=piece, of=of: spectral_rows(one, of, ["stable_rank"])
                    )
    return [row._replace(metric=NAME) for row in with_means(rows)]


def _loss_of(output: Any) -> Tensor:
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", output)
    loss = loss[0] if isinstance(loss, tuple) and loss else loss
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise BadInput(
            f"the model returns no loss on the probe batch, of which {NAME} needs the gradient",
            expected="a batch with labels, with which the model returns its loss",
            remedy=f'pass {{"input_ids": ids, "labels": ids}}, or leave {NAME} out of measures',
        )
    return loss


def _bad(problem: str, expected: str) -> BadInput:
    return BadInput(problem, expected=expected, remedy=f"leave {NAME} out of measures")
