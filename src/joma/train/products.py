"""Products of activations and weights, and the cross entropy of an output layer that never holds all its logits.

On a CPU torch multiplies float32 matrices with MKL, which uses half of the vector width that some processors have. The
oneDNN kernels that torch has too use all of it: on an AMD EPYC with AVX-512 they take half the time
(``benchmarks/training_step.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

MOST_LOGITS_BYTES = 20 << 20
"""The size of the logits that are held at a time: they then stay in the processor's cache between two passes."""


class Linear(nn.Linear):
    """``torch.nn.Linear`` with the products of ``linear``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x Wᵀ + b, (..., outputs)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x Wᵀ + b, as ``torch.nn.functional.linear`` up to rounding; it can be differentiated once.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,).
    """
    if not _has_onednn(x, weight):
        return functional.linear(x, weight, bias)
    rows = x.flatten(0, -2).contiguous()  # oneDNN takes 30 times as long for rows that lie apart
    return _Linear.apply(rows, weight, bias).unflatten(0, x.shape[:-1])


def output_loss(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy in nats of an output layer; its gradient is computed in the forward pass.

    Logits are computed for some rows at a time, turned into their gradient in place, multiplied with the weights and
    the inputs, and dropped; together they never take more than ``MOST_LOGITS_BYTES``, or one row.

    Args:
        x: (..., D) inputs of the output layer.
        weight: (V, D).
        bias: (V,).
        targets: (...) integers below V: the next tokens, or labels.

    Returns:
        a scalar, which can be differentiated once.
    """
    return _OutputLoss.apply(x.flatten(0, -2), weight, bias, targets.flatten(), torch.is_grad_enabled())


def linearised_loss(logits: Tensor, targets: Tensor, log_frequencies: Tensor) -> Tensor:
    """Return the tangent of the mean cross entropy at the word frequencies, in nats.

    It is linear in the logits z of a target y: H(p) + p·z − z_y for word frequencies p, at most the cross entropy and
    equal to it where softmax(z) is p. Its gradient for each logit, p minus one-hot target, is the same throughout
    training, as in the theory, where that of the cross entropy fades as the loss falls. It has no lower bound.

    Args:
        logits: (..., V).
        targets: (...) integers below V.
        log_frequencies: (V,) logarithms of word frequencies that sum to 1.
    """
    frequencies = log_frequencies.exp()
    entropy = -(frequencies @ log_frequencies)
    return entropy + (logits @ frequencies - logits.gather(-1, targets[..., None])[..., 0]).mean()


def _has_onednn(*tensors: Tensor) -> bool:
    return torch.backends.mkldnn.is_available() and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel() for tensor in tensors
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b without autograd, with oneDNN where it can be used; the operator is torch's own, but not public."""
    if not _has_onednn(x, weight):
        return functional.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if of_x else None,
            _product(gradient.t(), x.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


class _OutputLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, with_gradient: bool) -> Tensor:
        num_rows = max(1, MOST_LOGITS_BYTES // (len(weight) * x.element_size()))
        loss, of_x, of_weight, of_bias = x.new_zeros(()), torch.empty_like(x), None, torch.zeros_like(bias)
        transposed = weight.t().contiguous() if with_gradient else weight  # once, not for each product
        for start in range(0, len(x), num_rows):
            rows = slice(start, start + num_rows)
            logits = _product(x[rows], weight, bias)
            loss += _losses_in_place(logits, targets[rows], len(x))
            if with_gradient:
                of_x[rows] = _product(logits, transposed)
                part = _product(logits.t(), x[rows].t())
                of_weight = part if of_weight is None else of_weight.add_(part)
                of_bias += logits.sum(0)
        if with_gradient:
            ctx.save_for_backward(of_x, of_weight, of_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(part * gradient for part in ctx.saved_tensors), None, None


def _losses_in_place(logits: Tensor, targets: Tensor, num: int) -> Tensor:
    """Return the summed cross entropy of some of ``num`` rows, over ``num``; turn their logits into its gradient."""
    logits -= logits.amax(-1, keepdim=True)
    of_target = logits.gather(1, targets[:, None])
    total = logits.exp_().sum(-1, keepdim=True)
    logits /= total * num
    logits.scatter_add_(1, targets[:, None], torch.full_like(of_target, -1 / num))
    return (total.log() - of_target).sum() / num
