"""Samples of a law as data to train on: seeded batches, an endless stream that resumes, a Hugging Face dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from joma.errors import BadInput, InvalidArgument
from joma.extras import extra
from joma.files import write_json
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
    """Samples that follow from law, number, seed and kind of device alone.

    Args:
        law: what to draw from.
        num: B, how many.
        seed: of a generator of their own.
        shuffled: whether the tokens of a sequence stand in random order.
        device: where they are drawn.
    """
    return law.sample(num, torch.Generator(device).manual_seed(seed), shuffled=shuffled)


class HierarchyStream(IterableDataset[Samples]):
    """An endless stream of fresh batches, which goes on exactly where a saved state left it.

    Batch n follows from the seed and n alone. The stream has one place, not one per iterator: every loop over it
    goes on where the last one stopped. Under a ``DataLoader(stream, batch_size=None, num_workers=W)`` worker w
    draws every W-th batch, so that the loader gives the same batches in the same order as no loader at all. A loader
    moves its workers' copies only: count what comes out of it, and begin another stream at ``first_batch``.

    Args:
        law: what to draw from.
        batch_size: B.
        seed: of the whole stream. A recipe of this seed is trained on these very batches (on the CPU).
        shuffled: whether the tokens of a sequence stand in random order.
        device: where batches are drawn; another kind of device draws others.
        first_batch: which batch to begin with.
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
        """Batch ``number`` of the stream, wherever the stream is."""
        seed = seed_of(self.seed, "batch", number)
        return seeded_samples(self.law, self.batch_size, seed, shuffled=self.shuffled, device=self.device)

    def __iter__(self) -> Iterator[Samples]:
        worker = get_worker_info()
        while True:
            # The place moves before the batch is handed out: a state saved then counts it.
            if worker is None:
                number, self._first_batch = self._first_batch, self._first_batch + 1
            else:
                number = self._first_batch + self._num_taken * worker.num_workers + worker.id
                self._num_taken += 1
            yield self.batch(number)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, as plain data; ``num_taken`` counts a worker's own batches, and is 0 elsewhere."""
        return {"stream": self._identity(), "first_batch": self._first_batch, "num_taken": self._num_taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where a stream of the same law, seed, batch size, order and kind of device was.

        Raises:
            BadInput: the state of another stream, or no state that a stream can have.
        """
        if set(state) != {"stream", "first_batch", "num_taken"} or state["stream"] != self._identity():
            raise BadInput(
                f"this is the state of another stream: {state.get('stream')}",
                expected=f"one of {self._identity()}",
                remedy="make the stream with the law and the settings it had when its state was saved",
            )
        for name in ("first_batch", "num_taken"):
            if not _is_count(state[name], 0):
                raise BadInput(
                    f"this state of a stream has {name}={state[name]!r}",
                    expected="a whole number of at least 0",
                    remedy="save the state again with state_dict",
                )
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
    """Samples as a Hugging Face dataset, in memory: ``save_to_disk`` and ``push_to_hub`` are its own methods.

    Args:
        law: what to draw from.
        num: how many rows.
        seed: the same rows for the same law, number and seed.
        shuffled: whether the tokens of a sequence stand in random order.

    Returns:
        columns ``tokens`` (as many integers as the law's sequences are long), ``label``, and ``level_0``,
        ``level_1``, …: whether each latent of that level, from the tokens upwards, is present.

    Raises:
        BadInput: `datasets` is not installed.
    """
    datasets = extra("datasets", "samples become a dataset through it", name="hub")
    if num < 1:
        raise InvalidArgument("as_dataset", "num", required="at least 1", received=f"{num}", remedy="ask for some rows")
    parts = list(dataset_samples(law, num, seed, shuffled=shuffled))
    columns: dict[str, Tensor] = {
        "tokens": torch.cat([part.tokens for part in parts]),
        "label": torch.cat([part.labels for part in parts]),
    }
    for level in range(len(law.level_sizes)):
        columns[f"level_{level}"] = torch.cat([part.presence[level] for part in parts])
    return datasets.Dataset.from_dict({name: _arrow(column) for name, column in columns.items()})


def dataset_samples(law: Law, num: int, seed: int = 0, *, shuffled: bool = False) -> Iterator[Samples]:
    """The samples of which ``as_dataset`` makes its rows, some ten thousand at a time."""
    generator = torch.Generator().manual_seed(seed_of(seed, "dataset"))
    for start in range(0, num, _NUM_AT_ONCE):
        yield law.sample(min(_NUM_AT_ONCE, num - start), generator, shuffled=shuffled)


def _arrow(column: Tensor) -> Array:
    """Numbers, or rows of equally many, in the form a dataset keeps them in: several times faster than row by row."""
    import pyarrow

    entries = pyarrow.array(column.flatten().numpy())
    return entries if column.dim() == 1 else pyarrow.FixedSizeListArray.from_arrays(entries, column.shape[1])


def save_law(law: Law, path: Path) -> None:
    """Write a law into a JSON file, whole or not at all."""
    write_json(path, law.to_json())


def load_law(path: Path) -> Law:
    """Read what ``save_law`` wrote.

    Raises:
        BadInput: no such file, or one with something else in it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read ({type(error).__name__}: {error})",
            expected="a file that `save_law` wrote",
            remedy="name the file of a law, or write it again",
        ) from error
    return law_from_json(data)
