"""What is measured in a network while it trains, always on the same held-out sequences.

Metric names, each a mean over queries and probe sequences:

    attention_entropy_nats                 per layer and head, over all queries
    attention_entropy_normalized           ... divided by the logarithm of the keys a query sees; the first query
                                           sees one key and is left out
    …/positions_A_B                        either entropy, over the queries at positions A to B only (0-based,
                                           inclusive; four groups that cover all but the first position)
    …/probes_N                             either entropy, over every fourth probe sequence, from the N-th on
    attention_first_token_share            share of attention on the first key, per layer and head
    attention_commonest_token_share        share of attention on keys that are the text's commonest token
    stable_rank                            of each block's lower MLP layer
    validation_loss_nats                   per token, on the probe sequences
    train_loss_nats                        per token, mean over the steps since the last probe (dropout included)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from joma.measure.attention import attention_entropy, first_token_share, key_share, visible_keys
from joma.measure.spectrum import stable_rank
from joma.train.decoder import Decoder, next_token_loss
from joma.train.recipes import NUM_GROUPS, Recipe
from joma.train.vocabulary import Tokens

Row = tuple[int | None, int | None, str, float]
"""Layer, head, metric, value."""


class Probe:
    """Fixed held-out sequences, spread evenly, and what is measured on them.

    Args:
        recipe: how many sequences, how long.
        tokens: the text, long enough for them (``require_tokens``).
        device: where the network is.
    """

    def __init__(self, recipe: Recipe, tokens: Tokens, device: torch.device) -> None:
        window, num = recipe.length + 1, recipe.num_probe_sequences
        starts = [(len(tokens.held_out) - window) * i // (num - 1) for i in range(num)]
        sequences = torch.stack([tokens.held_out[start : start + window] for start in starts]).to(device)
        self._inputs, self._targets = sequences[:, :-1].contiguous(), sequences[:, 1:].contiguous()
        self._commonest = int(torch.bincount(tokens.train).argmax())
        self._position_groups = torch.arange(1, recipe.length).tensor_split(NUM_GROUPS)

    @torch.no_grad()
    def measure(self, decoder: Decoder) -> list[Row]:
        """Take every measurement but the training loss; leaves the network as it was, broken ones too."""
        rows: list[Row] = []
        was_training = decoder.training
        decoder.eval()
        logits = decoder(self._inputs, observe=lambda layer, q, k: rows.extend(self._attention(layer, q, k)))
        decoder.train(was_training)
        loss = next_token_loss(logits, self._targets).item()
        rows.append((None, None, "validation_loss_nats", loss))
        if math.isfinite(loss):
            ranks = (stable_rank(weight).item() for weight in decoder.lower_weights())
            rows.extend((layer, None, "stable_rank", rank) for layer, rank in enumerate(ranks))
        return rows

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> list[Row]:
        nats = attention_entropy(q, k, is_causal=True).double()
        normalized = nats / visible_keys(q, k, is_causal=True).clamp_min(2).log()
        first = first_token_share(q, k, is_causal=True).double()
        commonest = key_share(q, k, self._inputs == self._commonest, is_causal=True).double()
        per_head = {
            **_with_groups("attention_entropy_nats", nats, nats[:, :, 1:], self._position_groups),
            **_with_groups(
                "attention_entropy_normalized", normalized[:, :, 1:], normalized[:, :, 1:], self._position_groups
            ),
            "attention_first_token_share": first.mean(dim=(0, 2)),
            "attention_commonest_token_share": commonest.mean(dim=(0, 2)),
        }
        values = torch.stack(list(per_head.values())).tolist()
        return [
            (layer, head, metric, value)
            for metric, heads in zip(per_head, values, strict=True)
            for head, value in enumerate(heads)
        ]


def _with_groups(
    metric: str, values: Tensor, after_first: Tensor, position_groups: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """The mean per head of (B, H, L) values, and that of each group of positions and of sequences."""
    by_position = {
        f"{metric}/positions_{group[0]}_{group[-1]}": after_first[:, :, group - 1].mean(dim=(0, 2))
        for group in position_groups
    }
    by_probe = {f"{metric}/probes_{n}": values[n::NUM_GROUPS].mean(dim=(0, 2)) for n in range(NUM_GROUPS)}
    return {metric: values.mean(dim=(0, 2)), **by_position, **by_probe}
