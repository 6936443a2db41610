"""One sentence's attention over the saved steps, next to the same words shuffled: what ``joma.sentence`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas
import torch

from joma.charts import Chart, Heatmap
from joma.domains import check_seed
from joma.errors import BadInput, RunFailed
from joma.measure.models.building import Build, built
from joma.measure.models.families import kind_of
from joma.measure.scan.sentences import attention_at
from joma.measure.scan.steps import Plan
from joma.progress import Progress
from joma.provenance import versions
from joma.report.drawing.words import format_number
from joma.report.progress import shown
from joma.report.sentence import entropies, maps
from joma.saved.series import Series, open_series
from joma.studies.result import Result
from joma.studies.scan import chosen_steps
from joma.tidy import early_and_even
from joma.train.saved_runs import saved_decoder, words_of_run
from joma.train.text.probe import tokenizer_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

MOST_TOKENS = 64
MOST_STEPS = 12
ORDERS = ("as written", "shuffled")


@dataclass(frozen=True)
class Sentence(Result):
    """One sentence's attention: ``frame()`` has every weight, ``write()`` makes a page.

    Args:
        source: the series.
        text: the sentence.
        tokens: as written, and shuffled.
        weights: by step, (2, layers, heads, L, L): as written and shuffled.
        failed: why a step could not be read, by step.
    """

    source: str
    text: str
    tokens: tuple[Sequence[str], Sequence[str]]
    weights: Mapping[int, Float[Tensor, "2 layers heads L L"]]
    failed: Mapping[int, str] = field(default_factory=dict)

    def frame(self) -> pandas.DataFrame:
        """Return one row per weight above 0: step, order, layer, head, query, key, weight; tokens count from 0."""
        parts = []
        for step, weights in self.weights.items():
            order, *places = np.nonzero(weights.numpy())
            columns = dict(zip(("layer", "head", "query", "key"), places, strict=True))
            part = pandas.DataFrame({"step": step, "order": np.array(ORDERS)[order]} | columns)
            parts.append(part.assign(weight=weights.numpy()[order, *places]))
        return pandas.concat(parts, ignore_index=True)

    def verdicts(self) -> pandas.DataFrame:
        """Return the mean entropy over heads and tokens, in nats: one row per step, order and layer."""
        rows = [
            {"step": step, "order": order, "layer": layer, "attention_entropy_nats": value}
            for step, weights in self.weights.items()
            for order, of_layers in zip(ORDERS, entropies(weights).tolist(), strict=True)
            for layer, value in enumerate(of_layers)
        ]
        return pandas.DataFrame(rows)

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Return the weights of each layer at the last step, as means over heads, as written and shuffled."""
        last = max(self.weights)
        return [
            picture
            for layer in range(self.weights[last].shape[1])
            for picture in maps(self.weights[last], self.tokens, layer, None, last)
        ]

    def summary(self) -> str:
        """Return the mean entropy at the last step, as written and shuffled."""
        last = max(self.weights)
        unread = ", ".join(f"{step:,} ({problem})" for step, problem in self.failed.items())
        written, mixed = (format_number(value) for value in entropies(self.weights[last]).mean(1).tolist())
        return (
            f"{len(self.tokens[0])} tokens at {len(self.weights)} steps; at step {last:,} attention entropy is "
            f"{written} nats as written, and {mixed} with the same words shuffled"
            + (f"; left out, because they cannot be read: steps {unread}" if unread else "")
        )

    def write(self, folder: str | Path) -> Path:
        """Write ``sentence.html`` and the explorer into a folder, and return the path of the first."""
        from joma.report.pages.document import write_document
        from joma.report.pages.sentence import sentence_page
        from joma.studies.explore_parts import sentence_part
        from joma.studies.explorer import measured_in, run_of, write_explorer

        about = {"Sentence": self.text, "Source": self.source}
        made = {"created": datetime.now(UTC), "versions": versions()}
        page = sentence_page(self.weights, self.tokens, self.summary(), about, **made)
        said = sentence_part(self.text, self.tokens, self.weights)
        write_explorer(folder, run_of(measured_in(self.source), self.source, sentence=said))
        return write_document(page, Path(folder) / "sentence.html")


class _Read(NamedTuple):
    """A sentence as a model reads it: ids, tokens in words, and which may be shuffled."""

    ids: Tensor
    words: list[str]
    is_free: list[bool]


def sentence(
    source: str | Path | Series,
    text: str,
    *,
    steps: str | Sequence[int] | None = None,
    tokenizer: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sentence:
    """Show what each token of a sentence attends to, in every layer and head, over the saved steps.

    The same words in random order are read too: what attention does there comes from the words alone.

    >>> import joma
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast
    >>> words = Tokenizer(models.WordLevel({"the": 0, "cat": 1, "sat": 2, "?": 3}, unk_token="?"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained("checkpoints")[0]
    'checkpoints/tokenizer_config.json'
    >>> model = GPT2Model(GPT2Config(vocab_size=4, n_embd=32, n_layer=2, n_head=4))
    >>> for step in (0, 100):
    ...     model.save_pretrained(f"checkpoints/step{step}")
    >>> found = joma.sentence("checkpoints", "the cat sat")
    >>> found.weights[100].shape  # as written and shuffled, layers, heads, queries, keys
    torch.Size([2, 2, 4, 3, 3])
    >>> axes = found.plot()

    Args:
        source: a folder with saved steps, a weight file, ``owner/name`` on the hub, a run of joma, or an open series.
        text: the sentence, of 2 to 64 tokens.
        steps: which, as for ``joma.scan``; up to 12 of those that are there where ``None``.
        tokenizer: a file, a folder or a name on the hub; that of the series where ``None``. A run of joma has its own.
        seed: of the random order.
        progress: called as it goes on; a progress bar where ``None`` and it takes long.

    Raises:
        BadInput: no model or tokenizer there, a sentence that is too short or too long, a model whose attention to
            one text cannot be observed, or no step that can be read.
        RunFailed: a hub does not answer.
    """
    check_seed(seed, "sentence")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadInput("the sentence is not valid UTF-8", expected="text", remedy="give another sentence")
    series = source if isinstance(source, Series) else open_series(source)
    wanted = series.steps if steps is None else chosen_steps(steps, series.steps)
    if steps is None:
        wanted = [wanted[at] for at in early_and_even(len(wanted), MOST_STEPS)]
    read, build = _read(series, text, tokenizer)
    if not 2 <= len(read.ids) <= MOST_TOKENS:
        expected, remedy = f"2 to {MOST_TOKENS} tokens", "give another sentence"
        raise BadInput(f"the sentence has {len(read.ids)} tokens", expected=expected, remedy=remedy)
    order = _shuffled(read.is_free, seed)
    plan = Plan(series, (), torch.stack([read.ids, read.ids[order]]), build=build)
    found: dict[int, Tensor] = {}
    failed: dict[int, str] = {}
    with nullcontext(progress) if progress else shown() as report:
        for number, step in enumerate(wanted):
            report("reading", number, len(wanted))
            try:
                found[step] = attention_at(plan, step)
            except (BadInput, RunFailed) as error:
                if len(wanted) == 1 or (number == len(wanted) - 1 and not found):
                    raise
                failed[step] = error.problem
    return Sentence(series.source, text, (read.words, [read.words[at] for at in order]), found, failed)


def _read(series: Series, text: str, tokenizer: str | None) -> tuple[_Read, Build]:
    config = series.last(lambda step: series.checkpoint(step).config)
    if kind_of(config) == "joma":
        if tokenizer is not None:
            problem = "`tokenizer` has no effect on a run of joma"
            raise BadInput(problem, expected="the run's own words", remedy="leave it out")
        ids, words = words_of_run(config, Path(series.source), text)
        return _Read(ids, words, [True] * len(words)), saved_decoder
    reader = tokenizer_of(series, tokenizer)
    ids = torch.tensor(reader(text)["input_ids"], dtype=torch.int64)
    words = [str(reader.decode([token])) for token in ids.tolist()]
    special = set(reader.all_special_ids)
    return _Read(ids, words, [token not in special for token in ids.tolist()]), built


def _shuffled(is_free: Sequence[bool], seed: int) -> list[int]:
    """Return a random order of the tokens that are free, with the others in their places."""
    free = np.flatnonzero(is_free)
    order = np.arange(len(is_free))
    order[free] = np.random.default_rng(seed).permutation(free)
    return order.tolist()
