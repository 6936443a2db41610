"""The attention weights of one short text at a saved step."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from joma.errors import BadInput
from joma.measure.attention.weights import attention_weights
from joma.measure.capture.calls import AttentionCall
from joma.measure.capture.kernels import observing
from joma.measure.models.building import needed_names
from joma.measure.scan.steps import Plan, require_observed, require_reads


def attention_at(plan: Plan, step: int) -> Float[Tensor, "texts layers heads L L"]:
    """Return what each token attends to in every layer and head, in float64.

    Args:
        plan: the series, and the texts as its ``probe``: (texts, L) token ids.
        step: of the series.

    Raises:
        BadInput: weights that cannot be read, a model without attention that can be observed, layers that attend more
            than once or to something else than the text, or with different numbers of heads.
        RunFailed: a hub does not answer.
    """
    assert plan.probe is not None
    checkpoint = plan.series.checkpoint(step)
    tensors = plan.series.read(step, needed_names(checkpoint.tensors, with_head=False))
    with torch.no_grad():
        model = plan.build(checkpoint.config, tensors, with_head=False).to(plan.place)
        require_reads(model, checkpoint.config, int(plan.probe.max()))
        found = [_of_text(model, tokens) for tokens in plan.probe.to(plan.place)]
    return torch.stack(found).cpu()


def _of_text(model: torch.nn.Module, tokens: Int[Tensor, " L"]) -> Float[Tensor, "layers heads L L"]:
    layers: dict[int, Tensor] = {}

    def keep(call: AttentionCall) -> None:
        names = ("scale", "is_causal", "attn_mask", "softcap", "sinks")
        weights = attention_weights(call.q, call.k, **{name: getattr(call, name) for name in names})[0]
        if call.layer in layers or weights.shape[1:] != (len(tokens), len(tokens)):
            raise BadInput(
                f"layer {call.layer} ({call.name}) attends more than once, or to something else than the text",
                expected="one attention of the text to itself in each layer",
                remedy="look at its statistics instead: joma scan",
            )
        layers[call.layer] = weights

    with observing(model, keep) as module:
        output = module(tokens[None])
    require_observed(model, tokens[None], output, bool(layers))
    if len({len(weights) for weights in layers.values()}) > 1:
        raise BadInput(
            f"layers have {' and '.join(str(len(layers[layer])) for layer in sorted(layers))} heads",
            expected="layers with equally many heads",
            remedy="look at their statistics instead: joma scan",
        )
    return torch.stack([layers[layer] for layer in sorted(layers)])
