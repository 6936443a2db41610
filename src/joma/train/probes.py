"""What is measured in a network while it trains, always on the same held-out sequences.

Metric names for a text, each a mean over queries (``joma.measure.capture.calls.Queries``) and probe sequences:

    attention_entropy_nats                 per layer and head
    attention_entropy_normalized           ... divided by the logarithm of the keys a query sees
    …/positions_A_B                        either entropy, over the queries at positions A to B only (0-based,
                                           inclusive; four groups that cover all but the first position)
    …/probes_N                             either entropy, over every fourth probe sequence, from the N-th on
    attention_first_token_share            share of attention on the first key, per layer and head
    attention_commonest_token_share        share of attention on keys that are the text's commonest token
    stable_rank                            of each block's lower MLP layer
    validation_loss_nats                   per token, on the probe sequences
    train_loss_nats                        per token, mean over the steps since the last probe (dropout included)

For the labels of a law, where the last position is the only query that counts, each a mean over held-out samples:

    attention_entropy_nats                 per layer and head, of the last position's attention over all that it sees;
                                           padding is a key like any other, but a sample without any token is left out
    attention_padding_share                share of that attention on padding
    stable_rank, train_loss_nats           as above, the loss per sample
    validation_loss_nats                   per sample
    validation_accuracy                    share of samples whose likeliest label is their own
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from joma.journal import Row
from joma.measure.attention.statistics import attention_entropy, first_token_share, key_share, visible_keys
from joma.measure.capture.calls import AttentionCall, mean_over_queries
from joma.measure.spectra.spectrum import stable_rank
from joma.problem.tree import Law, Samples
from joma.train.decoder import Decoder, next_token_loss, seed_of
from joma.train.hierarchies import seeded_samples
from joma.train.recipes import NUM_GROUPS, Recipe
from joma.train.text.vocabulary import Tokens


def held_out_windows(tokens: Tokens, num: int, length: int) -> Tensor:
    """Stretches of a text's held-out part, spread evenly from its beginning to its end, (num, length).

    Args:
        tokens: the text, long enough for them (``require_tokens``).
        num: how many.
        length: tokens of each.
    """
    starts = [(len(tokens.held_out) - length) * i // max(1, num - 1) for i in range(num)]
    return torch.stack([tokens.held_out[start : start + length] for start in starts])


def held_out_samples(recipe: Recipe, law: Law, num: int) -> Samples:
    """Samples of a law that no run is trained on: the same for all runs, so that they differ by themselves only."""
    return seeded_samples(law, num, seed_of("held-out samples"), shuffled=recipe.shuffle_tokens)


class Probe:
    """Fixed held-out sequences, spread evenly, and what is measured on them.

    Args:
        recipe: how many sequences, how long.
        tokens: the text, long enough for them (``require_tokens``).
        device: where the network is.
    """

    def __init__(self, recipe: Recipe, tokens: Tokens, device: torch.device) -> None:
        sequences = held_out_windows(tokens, recipe.num_probe_sequences, recipe.length + 1).to(device)
        self._inputs, self._targets = sequences[:, :-1].contiguous(), sequences[:, 1:].contiguous()
        self._commonest = int(torch.bincount(tokens.train).argmax())
        self._position_groups = torch.arange(1, recipe.length).tensor_split(NUM_GROUPS)

    @torch.no_grad()
    def measure(self, decoder: Decoder) -> list[Row]:
        """Take every measurement but the training loss; leaves the network as it was, broken ones too."""
        rows: list[Row] = []
        with _evaluating(decoder):
            logits = decoder(self._inputs, observe=lambda layer, q, k: rows.extend(self._attention(layer, q, k)))
        loss = next_token_loss(logits, self._targets).item()
        rows.append((None, None, "validation_loss_nats", loss))
        return rows + _stable_ranks(decoder, loss)

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> list[Row]:
        nats = attention_entropy(q, k, is_causal=True).double()
        normalized = nats / visible_keys(q, k, is_causal=True).clamp_min(2).log()
        first = first_token_share(q, k, is_causal=True)
        commonest = key_share(q, k, self._inputs == self._commonest, is_causal=True)
        queries = AttentionCall(layer, "", q, k, is_causal=True).queries()
        per_head = {
            **_with_groups("attention_entropy_nats", nats, queries.every, self._position_groups),
            **_with_groups("attention_entropy_normalized", normalized, queries.spreading, self._position_groups),
            "attention_first_token_share": mean_over_queries(first, queries.every),
            "attention_commonest_token_share": mean_over_queries(commonest, queries.every),
        }
        return _rows(layer, per_head)


class LabelProbe:
    """Fixed samples of a law, which no training run draws, and what is measured on them.

    Args:
        recipe: how many samples, and in which order their tokens stand.
        law: what they are drawn from.
        device: where the network is.
    """

    def __init__(self, recipe: Recipe, law: Law, device: torch.device) -> None:
        samples = held_out_samples(recipe, law, recipe.num_probe_sequences)
        self._tokens, self._labels = samples.tokens.to(device), samples.labels.to(device)
        self._padding = self._tokens == law.padding
        self._has_token = ~self._padding[:, -1]

    @torch.no_grad()
    def measure(self, decoder: Decoder) -> list[Row]:
        """Take every measurement but the training loss; leaves the network as it was, broken ones too."""
        rows: list[Row] = []
        with _evaluating(decoder):
            logits = decoder(
                self._tokens,
                observe=lambda layer, q, k: rows.extend(self._attention(layer, q, k)),
                last_only=True,
            )
        loss = next_token_loss(logits, self._labels).item()
        rows.append((None, None, "validation_loss_nats", loss))
        right = (logits.argmax(-1) == self._labels).double().mean().item()
        rows.append((None, None, "validation_accuracy", right))
        return rows + _stable_ranks(decoder, loss)

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> list[Row]:
        if not self._has_token.any():
            return []
        q, k = q[self._has_token, :, -1:], k[self._has_token]
        per_head = {
            "attention_entropy_nats": attention_entropy(q, k).double().mean(dim=(0, 2)),
            "attention_padding_share": key_share(q, k, self._padding[self._has_token]).double().mean(dim=(0, 2)),
        }
        return _rows(layer, per_head)


@contextmanager
def _evaluating(decoder: Decoder) -> Generator[None]:
    was_training = decoder.training
    decoder.eval()
    try:
        yield
    finally:
        decoder.train(was_training)


def _stable_ranks(decoder: Decoder, loss: float) -> list[Row]:
    """The stable rank of each lower layer, unless the network is broken already."""
    if not math.isfinite(loss):
        return []
    return [(layer, None, "stable_rank", stable_rank(w).item()) for layer, w in enumerate(decoder.lower_weights())]


def _rows(layer: int, per_head: Mapping[str, Tensor]) -> list[Row]:
    """One row for each metric and head."""
    values = torch.stack(list(per_head.values())).tolist()
    return [
        (layer, head, metric, value)
        for metric, heads in zip(per_head, values, strict=True)
        for head, value in enumerate(heads)
    ]


def _with_groups(
    metric: str, values: Tensor, counted: Tensor, position_groups: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """The mean per head of (B, H, L) values over queries, and that of each group of positions and of sequences."""
    by_position = {
        f"{metric}/positions_{group[0]}_{group[-1]}": mean_over_queries(values[..., group], counted[..., group])
        for group in position_groups
    }
    by_probe = {f"{metric}/probes_{n}": mean_over_queries(values[n::NUM_GROUPS], counted) for n in range(NUM_GROUPS)}
    return {metric: mean_over_queries(values, counted), **by_position, **by_probe}
