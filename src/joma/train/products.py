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

MOST_LOGITS_BYTES_ACCELERATOR = 1 << 30
"""The same for an accelerator, on which larger products are faster."""


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
        x: (..., D) inputs of the output layer; (M, ..., D) for the layers of M networks.
        weight: (V, D), or (M, V, D).
        bias: (V,), or (M, V).
        targets: (...) integers below V: the next tokens, or labels; the same for all networks.

    Returns:
        a scalar, or (M,); it can be differentiated once.
    """
    x, targets = x.flatten(bias.dim() - 1, -2), targets.flatten()
    if bias.dim() == 2 and _has_onednn(x, weight):  # one network at a time keeps its logits in the cache
        return torch.stack([output_loss(*layer, targets) for layer in zip(x, weight, bias, strict=True)])
    return _OutputLoss.apply(x, weight, bias, targets, torch.is_grad_enabled())


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
    if weight.dim() == 3:
        return x @ weight.mT if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)
    if not _has_onednn(x, weight):
        return functional.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if of_x else None,
            _product(gradient.t(), x.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        """Multiply one network at a time, for which oneDNN is faster than torch's product of batches."""
        of_networks = [
            [each] * info.batch_size if dim is None else each.unbind(dim)
            for each, dim in zip(arguments, in_dims, strict=True)
        ]
        return torch.stack([_Linear.apply(*network) for network in zip(*of_networks, strict=True)]), 0


class _OutputLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, with_gradient: bool) -> Tensor:
        loss, of_x, of_weight, of_bias = x.new_zeros(x.shape[:-2]), torch.empty_like(x), None, torch.zeros_like(bias)
        transposed = weight.mT.contiguous() if with_gradient else weight  # once, not for each product
        num, num_rows = x.shape[-2], _rows_at_a_time(weight)
        for start in range(0, num, num_rows):
            rows = slice(start, start + num_rows)
            logits = _product(x[..., rows, :], weight, bias)
            loss += _losses_in_place(logits, targets[rows], num)
            if with_gradient:
                of_x[..., rows, :] = _product(logits, transposed)
                part = _product(logits.mT, x[..., rows, :].mT)
                of_weight = part if of_weight is None else of_weight.add_(part)
                of_bias += logits.sum(-2)
        if with_gradient:
            ctx.save_for_backward(of_x, of_weight, of_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        return (
            *(part * gradient.view(gradient.shape + (1,) * (part.dim() - gradient.dim())) for part in saved),
            None,
            None,
        )


def _rows_at_a_time(weight: Tensor) -> int:
    most = MOST_LOGITS_BYTES if weight.device.type == "cpu" else MOST_LOGITS_BYTES_ACCELERATOR
    return max(1, most // (weight[..., 0].numel() * weight.element_size()))


def _losses_in_place(logits: Tensor, targets: Tensor, num: int) -> Tensor:
    """Return the summed cross entropy of some of ``num`` rows, over ``num``; turn their logits into its gradient.

    Args:
        logits: (rows, V), or (M, rows, V).
        targets: (rows,).
        num: number of rows over which the mean is taken.

    Returns:
        a scalar, or (M,).
    """
    logits -= logits.amax(-1, keepdim=True)
    at = targets[:, None].expand(*logits.shape[:-1], 1)
    of_target = logits.gather(-1, at)
    total = logits.exp_().sum(-1, keepdim=True)
    logits /= total * num
    logits.scatter_add_(-1, at, torch.full_like(of_target, -1 / num))
    return (total.log() - of_target).sum((-2, -1)) / num
