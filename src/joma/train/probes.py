"""Measurements during training, always on the same held-out sequences.

Attention metrics are means over queries and sequences. For texts, entropy is also averaged over four groups of
positions, which cover all but the first (``positions_A_B``, 0-based and inclusive), and over every fourth sequence
(``sequences_N``). For laws, and for texts with one query, only the query at the last position counts; padding is a key
like any other, but samples without any token are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from joma.measure.attention.statistics import (
    attention_entropy,
    census_of_keys,
    first_token_share,
    key_share,
    largest_logit,
)
from joma.measure.capture.calls import AttentionCall, mean_over_queries
from joma.measure.spectra.spectrum import stable_rank
from joma.problem.tree import Law, Samples
from joma.records import Row
from joma.train.decoder import Decoder, evaluating, seed_of
from joma.train.hierarchies import seeded_samples
from joma.train.images.pictures import Pictures, as_input
from joma.train.recipes import NUM_GROUPS, Recipe
from joma.train.text.vocabulary import Tokens


def held_out_windows(tokens: Tokens, num: int, length: int) -> Tensor:
    """Return windows of the held-out part of a text, evenly spaced, (num, length).

    Args:
        tokens: the text, which must be long enough (``require_tokens``).
        num: number of windows.
        length: tokens per window.
    """
    starts = [(len(tokens.held_out) - length) * i // max(1, num - 1) for i in range(num)]
    return torch.stack([tokens.held_out[start : start + length] for start in starts])


def held_out_samples(recipe: Recipe, law: Law, num: int) -> Samples:
    """Return the held-out samples of a law, which are the same for all runs."""
    return seeded_samples(law, num, seed_of("held-out samples"), shuffled=recipe.shuffle_tokens)


class Probe:
    """Measurements of a network on held-out windows of a text.

    Args:
        recipe: number and length of the windows.
        tokens: the text, which must be long enough (``require_tokens``).
        device: the device of the network.
    """

    def __init__(self, recipe: Recipe, tokens: Tokens, device: torch.device) -> None:
        sequences = held_out_windows(tokens, recipe.num_probe_sequences, recipe.length + 1).to(device)
        self._inputs, self._targets = sequences[:, :-1].contiguous(), sequences[:, 1:].contiguous()
        self._commonest = int(torch.bincount(tokens.train).argmax())
        self._one_query = recipe.one_query
        if recipe.one_query:
            self._targets = self._targets[:, -1]
        self._position_groups = () if recipe.one_query else torch.arange(1, recipe.length).tensor_split(NUM_GROUPS)

    @torch.no_grad()
    def measure(self, decoder: Decoder) -> list[Row]:
        """Return all measurements except the training loss; the mode of the network is restored."""
        rows: list[Row] = []
        with evaluating(decoder):
            loss = decoder.loss(
                self._inputs, self._targets, observe=lambda layer, q, k: rows.extend(self._attention(layer, q, k))
            ).item()
        rows.append(Row(None, None, None, "val_loss_nats", loss))
        return rows + _stable_ranks(decoder, loss)

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> list[Row]:
        q, is_causal = (q[:, :, -1:], False) if self._one_query else (q, True)
        nats = attention_entropy(q, k, is_causal=is_causal).double()
        normalized = nats / census_of_keys(q, k, is_causal=is_causal).num_visible.clamp_min(2).log()
        first = first_token_share(q, k, is_causal=is_causal)
        commonest = key_share(q, k, self._inputs == self._commonest, is_causal=is_causal)
        queries = AttentionCall(layer, "", q, k, is_causal=is_causal).queries()
        counted, groups = queries.every, self._position_groups
        return [
            *_rows_of_groups(layer, "attention_entropy_nats", nats, counted, groups),
            *_rows_of_groups(layer, "attention_entropy_normalized", normalized, queries.spreading, groups),
            *_rows(layer, "attention_first_token_share", mean_over_queries(first, counted)),
            *_rows(layer, "attention_commonest_token_share", mean_over_queries(commonest, counted)),
            *_rows(layer, "attention_max_logit", largest_logit(q, k, is_causal=is_causal).amax(dim=(0, 2))),
        ]


class LabelProbe:
    """Measurements of a network on held-out samples of a law.

    Args:
        recipe: number of samples, and whether their tokens are shuffled.
        law: the law.
        device: the device of the network.
    """

    def __init__(self, recipe: Recipe, law: Law, device: torch.device) -> None:
        samples = held_out_samples(recipe, law, recipe.num_probe_sequences)
        self._tokens, self._labels = samples.tokens.to(device), samples.labels.to(device)
        self._padding = self._tokens == law.padding
        self._has_token = ~self._padding[:, -1]

    @torch.no_grad()
    def measure(self, decoder: Decoder) -> list[Row]:
        """Return all measurements except the training loss; the mode of the network is restored."""
        rows: list[Row] = []
        with evaluating(decoder):
            logits = decoder(
                self._tokens, lambda layer, q, k: rows.extend(self._attention(layer, q, k)), last_only=True
            )
        return rows + _learning(decoder, logits, self._labels)

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> list[Row]:
        if not self._has_token.any():
            return []
        q, k = q[self._has_token, :, -1:], k[self._has_token]
        on_padding = key_share(q, k, self._padding[self._has_token])
        return [
            *_rows(layer, "attention_entropy_nats", attention_entropy(q, k).double().mean(dim=(0, 2))),
            *_rows(layer, "attention_padding_share", on_padding.double().mean(dim=(0, 2))),
            *_rows(layer, "attention_max_logit", largest_logit(q, k).amax(dim=(0, 2))),
        ]


class PictureProbe:
    """Measurements of a network on pictures of subjects that it never saw in training.

    Args:
        recipe: number of pictures.
        pictures: of all subjects.
        unseen: indices of the subjects; the first picture of evenly spaced ones is measured.
        device: the device of the network.
    """

    def __init__(self, recipe: Recipe, pictures: Pictures, unseen: Tensor, device: torch.device) -> None:
        num = min(recipe.num_probe_sequences, len(unseen))
        chosen = unseen[torch.linspace(0, len(unseen) - 1, num).long()]
        self._inputs = as_input(pictures.pixels[chosen, 0]).to(device)
        self._labels = pictures.labels[chosen].to(device)

    @torch.no_grad()
    def measure(self, decoder: Decoder) -> list[Row]:
        """Return all measurements except the training loss; the mode of the network is restored."""
        rows: list[Row] = []
        with evaluating(decoder):
            logits = decoder(
                self._inputs, lambda layer, q, k: rows.extend(self._attention(layer, q, k)), last_only=True
            )
        return rows + _learning(decoder, logits, self._labels)

    def _attention(self, layer: int, q: Tensor, k: Tensor) -> Iterator[Row]:
        nats = attention_entropy(q, k)
        every = torch.ones_like(nats[:1], dtype=torch.bool)
        yield from _rows_of_groups(layer, "attention_entropy_nats", nats, every, ())
        yield from _rows(layer, "attention_max_logit", largest_logit(q, k).amax(dim=(0, 2)))


def _learning(decoder: Decoder, logits: Tensor, labels: Tensor) -> list[Row]:
    """Loss, accuracy and stable ranks of a network that predicts labels."""
    loss = cross_entropy(logits, labels).item()
    right = (logits.argmax(-1) == labels).double().mean().item()
    learned = [Row(None, None, None, name, value) for name, value in (("val_loss_nats", loss), ("val_accuracy", right))]
    return learned + _stable_ranks(decoder, loss)


def _stable_ranks(decoder: Decoder, loss: float) -> list[Row]:
    """The stable rank of each lower MLP layer; none if the loss is NaN or infinite."""
    if not math.isfinite(loss):
        return []
    return [
        Row(layer, None, "mlp_lower", "stable_rank", stable_rank(weight).item())
        for layer, weight in enumerate(decoder.lower_weights())
    ]


def _rows(layer: int, metric: str, of_heads: Tensor, group: str | None = None) -> list[Row]:
    return [Row(layer, head, None, metric, value, group) for head, value in enumerate(of_heads.tolist())]


def _rows_of_groups(
    layer: int, metric: str, values: Tensor, counted: Tensor, position_groups: tuple[Tensor, ...]
) -> Iterator[Row]:
    """Means of (B, H, L) values over all queries, over each group of positions, and over each group of sequences."""
    yield from _rows(layer, metric, mean_over_queries(values, counted))
    for at in position_groups:
        mean = mean_over_queries(values[..., at], counted[..., at])
        yield from _rows(layer, metric, mean, f"positions_{at[0]}_{at[-1]}")
    for number in range(NUM_GROUPS):
        mean = mean_over_queries(values[number::NUM_GROUPS], counted)
        yield from _rows(layer, metric, mean, f"sequences_{number}")
