"""What is measured in a network while it trains, always on the same held-out sequences.

Metrics of attention are means over queries and probe sequences, taken also over groups of either: of a text, entropy
over the queries at some positions (``positions_A_B``, 0-based and inclusive, four groups that cover all but the first
position) and over every fourth sequence (``sequences_N``). For the labels of a law the last position is the only query
that counts; padding is a key like any other, but a sample without any token is left out.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from joma.measure.attention.statistics import attention_entropy, census_of_keys, first_token_share, key_share
from joma.measure.capture.calls import AttentionCall, mean_over_queries
from joma.measure.spectra.spectrum import stable_rank
from joma.problem.tree import Law, Samples
from joma.records import Row
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
        rows.append(Row(None, None, None, "val_loss_nats", loss))
        return rows + _stable_ranks(decoder, loss)

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> list[Row]:
        nats = attention_entropy(q, k, is_causal=True).double()
        normalized = nats / census_of_keys(q, k, is_causal=True).num_visible.clamp_min(2).log()
        first = first_token_share(q, k, is_causal=True)
        commonest = key_share(q, k, self._inputs == self._commonest, is_causal=True)
        queries = AttentionCall(layer, "", q, k, is_causal=True).queries()
        counted, groups = queries.every, self._position_groups
        return [
            *_rows_of_groups(layer, "attention_entropy_nats", nats, counted, groups),
            *_rows_of_groups(layer, "attention_entropy_normalized", normalized, queries.spreading, groups),
            *_rows(layer, "attention_first_token_share", mean_over_queries(first, counted)),
            *_rows(layer, "attention_commonest_token_share", mean_over_queries(commonest, counted)),
        ]


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
        rows.append(Row(None, None, None, "val_loss_nats", loss))
        right = (logits.argmax(-1) == self._labels).double().mean().item()
        rows.append(Row(None, None, None, "val_accuracy", right))
        return rows + _stable_ranks(decoder, loss)

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> list[Row]:
        if not self._has_token.any():
            return []
        q, k = q[self._has_token, :, -1:], k[self._has_token]
        on_padding = key_share(q, k, self._padding[self._has_token])
        return [
            *_rows(layer, "attention_entropy_nats", attention_entropy(q, k).double().mean(dim=(0, 2))),
            *_rows(layer, "attention_padding_share", on_padding.double().mean(dim=(0, 2))),
        ]


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
    return [
        Row(layer, None, "mlp_lower", "stable_rank", stable_rank(weight).item())
        for layer, weight in enumerate(decoder.lower_weights())
    ]


def _rows(layer: int, metric: str, of_heads: Tensor, group: str | None = None) -> list[Row]:
    """One row for each head."""
    return [Row(layer, head, None, metric, value, group) for head, value in enumerate(of_heads.tolist())]


def _rows_of_groups(
    layer: int, metric: str, values: Tensor, counted: Tensor, position_groups: tuple[Tensor, ...]
) -> Iterator[Row]:
    """Rows of (B, H, L) values over all queries, over each group of positions, and over each group of sequences."""
    yield from _rows(layer, metric, mean_over_queries(values, counted))
    for at in position_groups:
        mean = mean_over_queries(values[..., at], counted[..., at])
        yield from _rows(layer, metric, mean, f"positions_{at[0]}_{at[-1]}")
    for number in range(NUM_GROUPS):
        mean = mean_over_queries(values[number::NUM_GROUPS], counted)
        yield from _rows(layer, metric, mean, f"sequences_{number}")
