"""How the attention logits of words move in a decoder, and how Theorem 1 predicts it from the MLP's lower weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from joma.correlations import correlation
from joma.measure.curves.course import Course
from joma.theory.embeddings import overcomplete_logits
from joma.theory.invariants import expected_logits
from joma.train.probes import held_out_windows
from joma.train.run import Run
from joma.train.text.vocabulary import UNKNOWN, Tokens
from joma.train.words import WordsOfLayer, words_by_layer

NUM_SEQUENCES = 128
NUM_ORDERS = 20
Motion = Float[Tensor, "T M"]
"""The change since the start, over T snapshots and M words."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The words of one layer of one network over its snapshots, the first of which is the start.

    Args:
        steps: (T + 1) of the snapshots.
        ids: (M,) of the words that are compared: those of the probe except the unknown word, which stands for all
            words outside the vocabulary.
        snapshots: (T + 1) all words of the probe.
    """

    steps: tuple[int, ...]
    ids: Tensor
    snapshots: tuple[WordsOfLayer, ...]

    @cached_property
    def counts(self) -> Tensor:
        """How often each word stands in the probe."""
        return self._compared(self.snapshots[0].counts)

    @cached_property
    def measured(self) -> Motion:
        """The motion of the attention logits."""
        return self._motion(lambda now: now.attention_logits[0])

    @cached_property
    def predicted(self) -> Motion:
        """Theorem 1 for more tokens than dimensions, with b̄ of the start."""
        return self._predicted(self.snapshots[0].mean_attention[0])

    @cached_property
    def mlp_term(self) -> Motion:
        """Its first term, ½ Σₖ vₖ², alone."""
        return self._predicted(torch.zeros_like(self.snapshots[0].mean_attention[0]))

    @property
    def mean_term(self) -> Motion:
        """Its second term, −½ Σₖ ‖wₖ‖² b̄, alone."""
        return self.predicted - self.mlp_term

    @property
    def with_present_mean(self) -> Motion:
        """The whole formula, with b̄ as measured at each step."""
        return self._motion(
            lambda now: overcomplete_logits(now.token_weights[0], now.squared_norm, now.mean_attention[0])
        )

    @property
    def uncorrected(self) -> Motion:
        """Theorem 1 as for orthonormal tokens, ½ Σₖ (vₖ² − ‖vₖ‖² b̄), with word vectors as they are."""
        mean = self.snapshots[0].mean_attention[0]
        return self._motion(lambda now: expected_logits(now.unscaled_weights[0], "softmax", 1.0, mean))

    @property
    def growth(self) -> Motion:
        """The change of the squared lengths of the word vectors."""
        return self._motion(lambda now: now.lengths.square())

    @property
    def frequency(self) -> Motion:
        """The frequency of each word, the same at every step."""
        return (self.counts / self.counts.sum()).expand_as(self.measured)

    def agreement(self, predicted: Motion, measured: Motion | None = None, *, beyond_frequency: bool = True) -> Tensor:
        """Return the correlation over words, weighted by frequency, at each step, (T,).

        Args:
            predicted, measured: of this layer's words; ``measured`` is this layer's by default.
            beyond_frequency: whether the logarithm of the frequency is partialled out.
        """
        given = self.counts.log() if beyond_frequency else None
        return correlation(predicted, self.measured if measured is None else measured, self.counts, given)

    def permuted(self) -> Tensor:
        """Return the mean of ``agreement`` over predictions whose words are in random order, (T,)."""
        orders = [torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(n)) for n in range(NUM_ORDERS)]
        return torch.stack([self.agreement(self.predicted[:, order]) for order in orders]).mean(0)

    def with_unknown(self) -> Layer:
        """Return the layer with the unknown word among those that are compared."""
        return replace(self, ids=self.snapshots[0].ids)

    def _predicted(self, mean: Tensor) -> Motion:
        return self._motion(lambda now: overcomplete_logits(now.token_weights[0], now.squared_norm, mean))

    def _motion(self, quantity: Callable[[WordsOfLayer], Tensor]) -> Motion:
        values = torch.stack([self._compared(quantity(now)) for now in self.snapshots])
        return values[1:] - values[:1]

    def _compared(self, values: Tensor) -> Tensor:
        return values[torch.isin(self.snapshots[0].ids, self.ids)]


def layers_of(tokens: Tokens, run: Run, steps: Sequence[int] | None = None) -> list[Layer]:
    """Return the layers of a network of one head on held-out windows of its text.

    Args:
        tokens: the text.
        run: the training run of the network.
        steps: of the snapshots to read, from the start on; ``None`` for all.
    """
    probe = held_out_windows(tokens, NUM_SEQUENCES, run.recipe.length)
    steps = tuple(run.snapshots() if steps is None else steps)
    every = [words_by_layer(run.decoder(step), probe) for step in steps]
    ids = every[0][0].ids
    known = ids[torch.tensor([tokens.vocabulary[at] != UNKNOWN for at in ids])]
    return [Layer(steps, known, snapshots) for snapshots in zip(*every, strict=True)]


def course(layers: Sequence[Layer], values: Callable[[Layer], Tensor]) -> Course:
    """Return a number per step, one row per layer (of one depth, in networks of several seeds)."""
    return Course(layers[0].steps[1:], np.stack([values(layer).numpy() for layer in layers]))
