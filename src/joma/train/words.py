"""What Theorem 1 relates in a layer of a decoder: attention logits of words, and MLP weights seen from the words.

The theory's tokens are the words of a probe. In every layer, a word's vector is the mean of the block's inputs at the
positions where the word stands: in layer 0, its scaled embedding with the mean of its positions.

Axes: H heads, M words, K hidden units, B sequences, L positions, E dimensions of a head, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.measure.attention.weights import attention_weights
from joma.train.decoder import Block, Decoder, evaluating


@dataclass(frozen=True, eq=False)
class WordsOfLayer:
    """The words of one layer, in float64.

    Args:
        ids: (M,) of the words in the probe, ascending.
        counts: (M,) how often each stands in the probe.
        attention_logits: (H, M) q·k/√E, mean over all queries and over the word's positions.
        mean_attention: (H, M) attention that the word's positions receive together, mean over queries; sums to 1.
        token_weights: (H, M, K) the derivative of each preactivation of the MLP in the attention to the word, mean over
            queries, for word vectors that are centred and scaled to length 1 on their way through the value path.
        unscaled_weights: (H, M, K) the same for word vectors as they are, neither centred nor scaled.
        squared_norm: Σₖ ‖wₖ‖² of the MLP's lower weights.
        lengths: (M,) lengths of the centred word vectors at the block's input.
    """

    ids: Tensor
    counts: Tensor
    attention_logits: Tensor
    mean_attention: Tensor
    token_weights: Tensor
    unscaled_weights: Tensor
    squared_norm: float
    lengths: Tensor


@torch.no_grad()
def words_by_layer(decoder: Decoder, tokens: Tensor) -> list[WordsOfLayer]:
    """Measure the words of a probe in each layer.

    Vectors are centred by their mean over all positions, because a part that all words share shifts the logits of all
    keys alike and acts on the MLP as a bias.

    Args:
        decoder: a network with MLPs.
        tokens: (B, L) ids of the probe.

    Raises:
        InvalidArgument: the network has no MLP, or the probe has fewer than two different words.
    """
    ids, places, counts = tokens.unique(return_inverse=True, return_counts=True)
    if not decoder.config.mlp or len(ids) < 2:
        required, received = "with MLPs", "without"
        if decoder.config.mlp:
            required, received = "and a probe with at least two different words", f"a probe with {len(ids)}"
        remedy = "measure the full network on some sentences"
        raise InvalidArgument("words_by_layer", "decoder", required=required, received=received, remedy=remedy)
    found = []
    with evaluating(decoder):
        x = decoder.embedded(tokens)
        for block in decoder.blocks:
            assert isinstance(block, Block)
            following, part = _words(block, x, places, counts)
            found.append(WordsOfLayer(ids, counts.to(REAL), **part))
            x = following
    return found


def _words(block: Block, x: Tensor, places: Tensor, counts: Tensor) -> tuple[Tensor, dict]:
    """The output of a block, and the fields of ``WordsOfLayer`` except for ids and counts."""
    seen: dict[str, Tensor] = {}
    hook = block.norm_attention.register_forward_pre_hook(lambda _, given: seen.update(summed=given[0]))
    following = block(x, lambda q, k: seen.update(q=q, k=k))
    hook.remove()
    q, k = seen["q"], seen["k"]
    received = attention_weights(q, k, is_causal=True).mean(2).movedim(1, -1)  # (B, S, H), mean over queries
    keys = _by_word(k.movedim(1, 2), places, counts)  # (M, H, E)
    vectors = _by_word(x, places, counts)
    centred = vectors - (counts.to(REAL) @ vectors) / counts.sum()
    lower = block.mlp_lower.weight.to(REAL)
    slopes = _slopes(block.norm_attention, seen["summed"].flatten(0, 1).to(REAL))
    unscaled = _values(block, vectors) @ slopes
    directions = nn.functional.normalize(_values(block, centred) @ slopes, dim=-1)
    return following, {
        "attention_logits": torch.einsum("he,mhe->hm", q.to(REAL).mean((0, 2)), keys) / q.shape[-1] ** 0.5,
        "mean_attention": (_by_word(received, places, counts) * counts[:, None] / len(x)).mT,
        "token_weights": directions @ lower.mT,
        "unscaled_weights": unscaled @ lower.mT,
        "squared_norm": float(lower.square().sum()),
        "lengths": centred.norm(dim=-1),
    }


def _by_word(values: Tensor, places: Tensor, counts: Tensor) -> Tensor:
    """The mean of (B, L, ...) values over the positions of each word, (M, ...)."""
    sums = torch.zeros(len(counts), *values.shape[2:], dtype=REAL, device=values.device)
    sums.index_add_(0, places.flatten(), values.flatten(0, 1).to(REAL))
    return sums / counts.view(-1, *[1] * (values.ndim - 2))


def _values(block: Block, vectors: Tensor) -> Tensor:
    """What attention to a vector adds to the residual stream, per head and without biases, (H, M, D)."""
    num_heads = block.config.num_heads
    values = (vectors @ block.value.weight.to(REAL).mT).unflatten(-1, (num_heads, -1))
    outputs = block.attention_output.weight.to(REAL).unflatten(-1, (num_heads, -1))
    return torch.einsum("mhe,dhe->hmd", values, outputs)


def _slopes(norm: nn.Module, summed: Tensor) -> Tensor:
    """The mean derivative of a LayerNorm (or of none) over inputs (N, D): (D, D), from input to output."""
    width = summed.shape[-1]
    if not isinstance(norm, nn.LayerNorm):
        return torch.eye(width, dtype=REAL, device=summed.device)
    deviations = (summed.var(-1, correction=0) + norm.eps).sqrt()
    normal = (summed - summed.mean(-1, keepdim=True)) / deviations[:, None]
    along = normal.mT @ (normal / deviations[:, None]) / (len(summed) * width)
    mean_rate = deviations.reciprocal().mean()
    centring = torch.eye(width, dtype=REAL, device=summed.device) - 1 / width
    return (mean_rate * centring - along) * norm.weight.to(REAL)
