"""Decoders that predict the columns of a table's rows, one after the other: an exact likelihood of each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from joma.measure.trees.coding import starts_of
from joma.train.decoder import Decoder, DecoderConfig, evaluating, seed_of
from joma.train.loop import Loop

_ROWS = 2048  # scored at a time


@dataclass(frozen=True)
class RowSettings:
    """How a decoder is trained on rows.

    Args:
        num_steps: optimiser steps.
        batch_size: rows per step, drawn anew from the table.
        learning_rate: of Adam, constant.
        width, num_heads, hidden, num_layers: of the network.
        seed: of weights and batches.
        sees_columns: whether a column is predicted from the values before it; otherwise from its place alone, so that
            what is learned is how frequent each of its values is.
    """

    num_steps: int
    batch_size: int = 128
    learning_rate: float = 3e-3
    width: int = 64
    num_heads: int = 4
    hidden: int = 128
    num_layers: int = 1
    seed: int = 0
    sees_columns: bool = True


class RowDecoder:
    """A decoder of rows: a start token, then one token per column, each of a vocabulary of its own.

    Args:
        sizes: (n,) the number of codes of each column; a missing value has a code of its own, the last.
        settings: of the network.
    """

    def __init__(self, sizes: Int[np.ndarray, " n"], settings: RowSettings) -> None:
        self._starts = 1 + starts_of(sizes + 1)
        self._sizes, self._sees_columns = sizes, settings.sees_columns
        config = DecoderConfig(
            int(1 + (sizes + 1).sum()),
            settings.width,
            settings.num_heads,
            settings.hidden,
            settings.num_layers,
            dropout=0.0,
        )
        self.decoder = Decoder(config, settings.seed)
        code = np.arange(int(sizes.max()) + 1)
        is_code = code <= sizes[:, None]
        self._outputs = torch.from_numpy(np.where(is_code, self._starts[:, None] + code, 0))  # (n, codes)
        self._padding = torch.from_numpy(np.where(is_code, 0.0, -np.inf)).float()

    def tokens(self, codes: Int[np.ndarray, "rows n"]) -> Int[Tensor, "rows n+1"]:
        """Return the tokens of rows of codes (−1 for missing values), the start token first."""
        tokens = np.where(codes < 0, self._sizes, codes) + self._starts
        return torch.from_numpy(np.concatenate([np.zeros((len(codes), 1), dtype=int), tokens], axis=1))

    def losses(self, tokens: Int[Tensor, "rows n+1"]) -> Float[Tensor, "rows n"]:
        """Return −ln p(column | columns before it) for every value; their sum is −ln of the row's probability."""
        seen = tokens[:, :-1] if self._sees_columns else torch.zeros_like(tokens[:1, :-1])  # start tokens, for all rows
        features, output = self.decoder.features(seen), self.decoder.output
        logits = torch.einsum("bnd,nkd->bnk", features, output.weight[self._outputs])  # only the column's own codes
        logits = (logits + output.bias[self._outputs] + self._padding).expand(len(tokens), -1, -1)
        return cross_entropy(logits.mT, tokens[:, 1:] - self._outputs[:, 0], reduction="none")

    @torch.no_grad()
    def surprise(self, codes: Int[np.ndarray, "rows n"]) -> Float[np.ndarray, "rows n"]:
        """Return what each column adds to the surprise of each row, in nats."""
        with evaluating(self.decoder):
            parts = [self.losses(part) for part in self.tokens(codes).split(_ROWS)]
        return torch.cat(parts).double().numpy()

    @torch.no_grad()
    def attention(self, codes: Int[np.ndarray, "rows n"]) -> Float[np.ndarray, "n n"]:
        """Return the mean attention of the first layer to column j where column i is predicted, over heads and rows.

        The column just before i, which the residual stream has anyway, and the start token are keys too, but have no
        place here: entries j < i − 1 are attention weights, all others NaN.
        """
        kept: list[Tensor] = []

        def observe(layer: int, queries: Tensor, keys: Tensor) -> None:
            if layer == 0:
                scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
                hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
                kept.append(scores.masked_fill(hidden, -math.inf).softmax(-1).mean((0, 1)))

        with evaluating(self.decoder):
            self.decoder(self.tokens(codes)[:, :-1], observe)
        num = codes.shape[1]
        found = np.full((num, num), np.nan)
        weights = kept[0].double().numpy()  # query position i predicts column i; key position j + 1 is column j
        for column in range(num):
            found[column, : max(0, column - 1)] = weights[column, 1:column]
        return found


@dataclass
class _Rows:
    """What the loop trains; see ``joma.train.loop.Trainee``. Nothing is written."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_of: Callable[[int], Tensor]
    settings: RowSettings
    folder: Path = field(default=Path())
    checkpoint_folder: Path = field(default=Path())
    gradient_clip: float = 0.5
    kept: str = "nothing"

    def __post_init__(self) -> None:
        self.num_steps = self.checkpoint_every = self.settings.num_steps
        self.seed = self.settings.seed

    def first_missing(self) -> float:
        """Nothing is recorded."""
        return math.inf

    def learning_rate(self, step: int) -> float:
        """Return the learning rate, which is constant."""
        return self.settings.learning_rate

    def loss(self, step: int) -> Tensor:
        """Return the mean loss per column on the batch of a step."""
        return self.loss_of(step)

    def is_due(self, step: int) -> bool:
        """Nothing is recorded."""
        return False

    def record(self, step: int, train_loss: float | None) -> bool:
        """Nothing is recorded."""
        return False

    def flush(self) -> None:
        """Nothing is written."""


def train_rows(
    codes: Int[np.ndarray, "rows n"],
    sizes: Int[np.ndarray, " n"],
    settings: RowSettings,
    look: Callable[[int, RowDecoder], None] = lambda step, decoder: None,
) -> RowDecoder:
    """Train a decoder to predict every column of rows from the columns before it.

    Args:
        codes: the rows, −1 for missing values.
        sizes: the number of codes of each column.
        settings: of network and training.
        look: called with the number of steps done and the network, before the first step and after each.

    Raises:
        RunFailed: the loss is NaN or infinite.
    """
    with torch.random.fork_rng([]):
        decoder = RowDecoder(sizes, settings)
        tokens = decoder.tokens(codes)

        def loss(step: int) -> Tensor:
            generator = torch.Generator().manual_seed(seed_of(settings.seed, "rows", step))
            rows = torch.randint(len(tokens), (settings.batch_size,), generator=generator)
            return decoder.losses(tokens[rows]).mean()

        optimizer = torch.optim.Adam(decoder.decoder.parameters(), lr=settings.learning_rate, fused=True)
        loop = Loop(_Rows(decoder.decoder.train(), optimizer, loss, settings))
        look(0, decoder)
        while not loop.is_done:
            loop.advance()
            look(loop.step, decoder)
    loop.require_finite()
    decoder.decoder.eval()
    return decoder
