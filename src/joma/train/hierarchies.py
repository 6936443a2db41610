"""Samples of a law as training data: seeded batches, an infinite stream that can be resumed, a Hugging Face dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from joma.domains import check_whole
from joma.errors import BadInput, InvalidArgument
from joma.extras import extra
from joma.files import read_json, write_json
from joma.problem.laws import law_from_json
from joma.problem.tree import Law, Samples, digest
from joma.train.decoder import seed_of

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import Array

_NUM_AT_ONCE = 65_536


def seeded_samples(
    law: Law, num: int, seed: int, *, shuffled: bool = False, device: torch.device | str = "cpu"
) -> Samples:
    """Draw samples that depend only on law, number, seed and type of device.

    Args:
        law: the law.
        num: number of samples, B.
        seed: seed of the generator.
        shuffled: whether the tokens of a sequence are in random order.
        device: the device of the generator.
    """
    return law.sample(num, torch.Generator(device).manual_seed(seed), shuffled=shuffled)


class HierarchyStream(IterableDataset[Samples]):
    """An infinite stream of new batches, which can be resumed exactly from a saved state.

    Batch n depends only on the seed and n. The position belongs to the stream, not to an iterator: every loop
    continues where the last one stopped. With a ``DataLoader(stream, batch_size=None, num_workers=W)`` worker w
    draws every W-th batch, so that the loader yields the same batches in the same order as the stream itself. A loader
    advances only the copies in its workers: to resume, count its batches and start a new stream at ``first_batch``.

    Args:
        law: the law.
        batch_size: samples per batch, B.
        seed: seed of the stream. A recipe with this seed is trained on the same batches (on the CPU).
        shuffled: whether the tokens of a sequence are in random order.
        device: the device on which batches are drawn; batches differ between types of device.
        first_batch: number of the first batch.
    """

    def __init__(
        self,
        law: Law,
        batch_size: int,
        seed: int = 0,
        *,
        shuffled: bool = False,
        device: torch.device | str = "cpu",
        first_batch: int = 0,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("first_batch", first_batch, 0)):
            if not _is_count(value, least):
                required, remedy = f"a whole number of at least {least}", f"take {least} or more"
                raise InvalidArgument("HierarchyStream", name, required=required, received=f"{value}", remedy=remedy)
        self.law, self.batch_size, self.seed, self.shuffled = law, batch_size, seed, shuffled
        self.device = torch.device(device)
        self._first_batch, self._num_taken = first_batch, 0

    def batch(self, number: int) -> Samples:
        """Return batch ``number``, independently of the position of the stream."""
        seed = seed_of(self.seed, "batch", number)
        return seeded_samples(self.law, self.batch_size, seed, shuffled=self.shuffled, device=self.device)

    def __iter__(self) -> Iterator[Samples]:
        worker = get_worker_info()
        while True:
            # The position advances before the batch is yielded, so that a state saved afterwards counts the batch.
            if worker is None:
                number, self._first_batch = self._first_batch, self._first_batch + 1
            else:
                number = self._first_batch + self._num_taken * worker.num_workers + worker.id
                self._num_taken += 1
            yield self.batch(number)

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain data; ``num_taken`` counts the batches of a worker and is 0 without workers."""
        return {"stream": self._identity(), "first_batch": self._first_batch, "num_taken": self._num_taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the position of a stream of the same law, seed, batch size, order and type of device.

        Raises:
            BadInput: the state belongs to another stream or is invalid.
        """
        if set(state) != {"stream", "first_batch", "num_taken"} or state["stream"] != self._identity():
            remedy = "make the stream with the law and the settings that it had when its state was saved"
            problem = f"this is the state of another stream: {state.get('stream')}"
            raise BadInput(problem, expected=f"one of {self._identity()}", remedy=remedy)
        for name in ("first_batch", "num_taken"):
            if not _is_count(state[name], 0):
                problem, remedy = f"the state has {name}={state[name]!r}", "save the state again with state_dict"
                raise BadInput(problem, expected="a whole number of at least 0", remedy=remedy)
        self._first_batch, self._num_taken = state["first_batch"], state["num_taken"]

    def _identity(self) -> dict[str, Any]:
        return {
            "law": digest(self.law),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffled": self.shuffled,
            "device": self.device.type,
        }


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def as_dataset(law: Law, num: int, seed: int = 0, *, shuffled: bool = False) -> Dataset:
    """Return samples as a Hugging Face dataset in memory; it has methods ``save_to_disk`` and ``push_to_hub``.

    Args:
        law: the law.
        num: number of rows.
        seed: seed of the samples.
        shuffled: whether the tokens of a sequence are in random order.

    Returns:
        a dataset with columns ``tokens``, ``label``, and ``level_0``, ``level_1``, …: whether each latent of that
        level, from the tokens upwards, is present, or its symbol.

    Raises:
        BadInput: `datasets` is not installed.
    """
    datasets = extra("datasets", "the dataset is made with it", name="hub")
    check_whole(num, "as_dataset", "num", remedy="take 1 or more")
    parts = list(dataset_samples(law, num, seed, shuffled=shuffled))
    columns = {"tokens": [part.tokens for part in parts], "label": [part.labels for part in parts]}
    for level in range(len(law.level_sizes)):
        columns[f"level_{level}"] = [(part.symbols or part.presence)[level] for part in parts]
    return datasets.Dataset.from_dict({name: _arrow(torch.cat(column)) for name, column in columns.items()})


def dataset_samples(law: Law, num: int, seed: int = 0, *, shuffled: bool = False) -> Iterator[Samples]:
    """Yield the samples of ``as_dataset``, in batches of up to 65,536."""
    generator = torch.Generator().manual_seed(seed_of(seed, "dataset"))
    for start in range(0, num, _NUM_AT_ONCE):
        yield law.sample(min(_NUM_AT_ONCE, num - start), generator, shuffled=shuffled)


def _arrow(column: Tensor) -> Array:
    """Convert a vector or matrix to an Arrow array, several times faster than row by row."""
    import pyarrow

    entries = pyarrow.array(column.flatten().numpy())
    return entries if column.dim() == 1 else pyarrow.FixedSizeListArray.from_arrays(entries, column.shape[1])


def save_law(law: Law, path: Path) -> None:
    """Write a law to a JSON file atomically."""
    write_json(path, law.to_json())


def load_law(path: Path) -> Law:
    """Read a law from a file that ``save_law`` wrote.

    Raises:
        BadInput: the file does not exist or does not contain a law.
    """
    remedy = "name the file of a law, or write it again"
    return law_from_json(read_json(path, dict[str, Any], expected="a file that `save_law` wrote", remedy=remedy))
