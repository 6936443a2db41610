"""The one-layer model of the theory: attention over tokens, an MLP and a loss, with the gradients of its parameters.

The notation is that of docs/theory.md, section 1. All tensors are float64. ``*batch`` are independent problems that
are computed together: same sizes and settings, but different data, embeddings and parameters.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int

from joma.arrays import REAL, as_real
from joma.errors import InvalidArgument
from joma.problem.activations import Activation, as_activation
from joma.problem.attention import AttentionKind, attention_weights, check_attention
from joma.problem.losses import Loss, as_loss


class Parameters(NamedTuple):
    """The parameters of the model.

    Args:
        weights: W, the MLP's lower layer.
        attention_logits: z of each query.
        upper: the layer from the hidden units to the outputs; with ``None`` the hidden units are the outputs.
    """

    weights: Float[torch.Tensor, "*batch D K"]
    attention_logits: Float[torch.Tensor, "*batch Q M"]
    upper: Float[torch.Tensor, "*batch K O"] | None = None


class Activity(NamedTuple):
    """The intermediate results of the model on its data: b, f, Wᵀf, h, the outputs, and the loss of each problem."""

    attention: Float[torch.Tensor, "*batch Q N M"]
    features: Float[torch.Tensor, "*batch Q N D"]
    preactivation: Float[torch.Tensor, "*batch Q N K"]
    hidden: Float[torch.Tensor, "*batch Q N K"]
    outputs: Float[torch.Tensor, "*batch Q N O"]
    loss: Float[torch.Tensor, "*batch"]


class Velocity(NamedTuple):
    """The negative gradient of the loss: the right-hand side of the gradient flow.

    Args:
        weights: ẇₖ = E[gₖ φ′ₖ f].
        attention_logits: ż = E[(∂b/∂z)ᵀ U_Cᵀ g_f].
        upper: of the upper layer; ``None`` if that is fixed or absent.
        recoil: Σₖ E[gₖ φ′ₖ b bᵀ] vₖ with softmax attention: the part of T ż that normalisation subtracts; ``None``
            with the other kinds. Its integral is needed for the softmax identity of docs/theory.md, section 2.
    """

    weights: Float[torch.Tensor, "*batch D K"]
    attention_logits: Float[torch.Tensor, "*batch Q M"]
    upper: Float[torch.Tensor, "*batch K O"] | None
    recoil: Float[torch.Tensor, "*batch Q M"] | None


@dataclass(frozen=True, eq=False)
class OneLayer:
    """The model without its parameters: data, embeddings and settings.

    Args:
        context: x, the frequency of each contextual token in each sample of each query; at least 0, and with softmax
            attention above 0 for some token of every sample.
        targets: second argument of the loss (class probabilities, values, or a constant gradient).
        context_embedding: U_C, one column per contextual token.
        query_embedding: u_q, one column per query.
        attention: ``linear``, ``exp`` or ``softmax``.
        temperature: T > 0; exp and softmax only.
        activation: φ, a name of ``ACTIVATIONS`` or an elementwise torch function.
        loss: a name of ``LOSSES``, or a function from (outputs, targets) to the loss of each sample.
        trains_upper: whether the upper layer is trained too.
    """

    context: Float[torch.Tensor, "*batch Q N M"]
    targets: Float[torch.Tensor, "*batch Q N O"]
    context_embedding: Float[torch.Tensor, "*batch D M"]
    query_embedding: Float[torch.Tensor, "*batch D Q"]
    attention: AttentionKind = "softmax"
    temperature: float = 1.0
    activation: str | Activation = "identity"
    loss: str | Loss = "cross_entropy"
    trains_upper: bool = False

    def __post_init__(self) -> None:
        for name in ("context", "targets", "context_embedding", "query_embedding"):
            object.__setattr__(self, name, as_real(getattr(self, name), "OneLayer", name))
        check_attention(self.attention, self.temperature, "OneLayer")
        as_activation(self.activation, "OneLayer")
        as_loss(self.loss, "OneLayer")
        *_, q, n, m = self._axes("context", 3)
        d = self._axes("context_embedding", 2)[-2]
        self._require("context_embedding", (d, m), "(D, M) with the M of the context")
        self._require("query_embedding", (d, q), "(D, Q) with the D of the context embedding, the Q of the context")
        self._require("targets", (q, n, self._axes("targets", 3)[-1]), "(Q, N, O) with the Q and N of the context")
        if self.targets.shape[:-3] != self.context.shape[:-3]:
            self._refuse("targets", "the leading axes of the context", f"of shape {tuple(self.targets.shape)}")
        if (self.context < 0).any() or self.context.isinf().any():
            self._refuse("context", "finite token frequencies of at least 0", "negative or infinite somewhere")
        if self.attention == "softmax" and (self.context.sum(-1) == 0).any():
            self._refuse("context", "a token in every sample, with softmax attention", "0 for all tokens of a sample")

    def _axes(self, name: str, num: int) -> torch.Size:
        shape = getattr(self, name).shape
        if len(shape) < num or 0 in shape[-num:]:
            self._refuse(name, f"at least {num} axes, none of the last {num} empty", f"of shape {tuple(shape)}")
        return shape

    def _require(self, name: str, shape: tuple[int, ...], words: str) -> None:
        received = tuple(getattr(self, name).shape)
        if received[-len(shape) :] != shape:
            self._refuse(name, f"shape (*batch, {str(shape)[1:-1]}), that is {words}", f"of shape {received}")

    def _refuse(self, name: str, required: str, received: str) -> None:
        remedy = "see OneLayer's docstring for the axes"
        raise InvalidArgument("OneLayer", name, required=required, received=received, remedy=remedy)

    def subset(self, samples: Int[torch.Tensor, " S"]) -> OneLayer:
        """Return the model with some of the samples of each query, without repeating the checks of the data."""
        part = copy.copy(self)
        for name in ("context", "targets"):
            object.__setattr__(part, name, getattr(self, name)[..., samples, :])
        return part

    @property
    def orthonormal(self) -> bool:
        """Whether [U_C, u_q] is orthonormal up to rounding, as Theorem 1 assumes."""
        embedding = torch.cat([self.context_embedding, self.query_embedding], -1)
        gram = embedding.mT @ embedding
        return bool((gram - torch.eye(gram.shape[-1], dtype=REAL, device=gram.device)).abs().max() < 1e-12)


def orthonormal_embeddings(
    n_context: int, n_queries: int = 1
) -> tuple[Float[torch.Tensor, "D M"], Float[torch.Tensor, "D Q"]]:
    """Return orthonormal [U_C, u_q], float64: the unit vectors, in as many dimensions as there are tokens."""
    unit = torch.eye(n_context + n_queries, dtype=REAL)
    return unit[:, :n_context], unit[:, n_context:]


def token_weights(
    weights: Float[torch.Tensor, "*batch D K"], context_embedding: Float[torch.Tensor, "*batch D M"]
) -> Float[torch.Tensor, "*batch M K"]:
    """Return V, the lower weights in token coordinates: vₖ = U_Cᵀ wₖ."""
    return context_embedding.mT @ weights


def activity(model: OneLayer, parameters: Parameters) -> Activity:
    """Run the model on its data; the result is differentiable in the parameters."""
    attention = attention_weights(model.context, parameters.attention_logits, model.attention, model.temperature)
    features = attention @ model.context_embedding.unsqueeze(-3).mT + model.query_embedding.mT.unsqueeze(-2)
    preactivation = features @ parameters.weights.unsqueeze(-3)
    hidden = as_activation(model.activation, "OneLayer")(preactivation)
    outputs = hidden if parameters.upper is None else hidden @ parameters.upper.unsqueeze(-3)
    losses = as_loss(model.loss, "OneLayer")(outputs, model.targets)
    return Activity(attention, features, preactivation, hidden, outputs, losses.mean((-2, -1)))


def velocity(model: OneLayer, parameters: Parameters) -> Velocity:
    """Return the right-hand side of the gradient flow: the negative gradient of each problem's mean loss.

    It is computed by automatic differentiation, for any φ, loss and upper layer, and is not itself differentiable.
    """
    trained = {"weights": parameters.weights, "attention_logits": parameters.attention_logits}
    if model.trains_upper and parameters.upper is not None:
        trained["upper"] = parameters.upper
    leaves = {name: part.detach().requires_grad_() for name, part in trained.items()}
    with torch.enable_grad():
        seen = activity(model, parameters._replace(**leaves))
        wanted = [*leaves.values(), *([seen.attention] if model.attention == "softmax" else [])]
        gradients = torch.autograd.grad(seen.loss.sum(), wanted)
    ascent = {name: -gradient for name, gradient in zip(leaves, gradients, strict=False)}
    attention, recoil = seen.attention.detach(), None
    if model.attention == "softmax":
        pull = -gradients[-1]  # U_Cᵀ g_f of each sample, over the number of samples
        recoil = (attention * (attention * pull).sum(-1, keepdim=True)).sum(-2)
    return Velocity(ascent["weights"], ascent["attention_logits"], ascent.get("upper"), recoil)


def error_signal(model: OneLayer, parameters: Parameters) -> Float[torch.Tensor, "*batch Q N K"]:
    """Return gₖ φ′ₖ of each sample: the negative gradient of the loss in the preactivations."""
    with torch.enable_grad():
        seen = activity(model, parameters._replace(weights=parameters.weights.detach().requires_grad_()))
        (gradient,) = torch.autograd.grad(seen.loss.sum(), [seen.preactivation])
    return -gradient * (model.context.shape[-3] * model.context.shape[-2])


def check_parameters(model: OneLayer, parameters: Parameters, function: str) -> Parameters:
    """Return the parameters as float64, after checking their shapes and dtypes against the model."""
    *batch, q, _, m = model.context.shape
    d, outputs = model.context_embedding.shape[-2], model.targets.shape[-1]
    weights = as_real(parameters.weights, function, "parameters.weights")
    k = weights.shape[-1] if weights.ndim else 0
    expected = {"weights": (*batch, d, k), "attention_logits": (*batch, q, m), "upper": (*batch, k, outputs)}
    logits = as_real(parameters.attention_logits, function, "parameters.attention_logits")
    upper = None if parameters.upper is None else as_real(parameters.upper, function, "parameters.upper")
    checked = Parameters(weights, logits, upper)
    for name, tensor in checked._asdict().items():
        if tensor is None and (model.trains_upper or k != outputs):
            required, received = f"a tensor of shape {expected[name]}: the model trains it or needs it", "None"
        elif tensor is not None and tuple(tensor.shape) != expected[name]:
            required, received = f"shape {expected[name]}", f"of shape {tuple(tensor.shape)}"
        else:
            continue
        raise InvalidArgument(
            function, f"parameters.{name}", required=required, received=received, remedy="see Parameters for the axes"
        )
    return checked
