"""Samples as a stream that can be resumed, with and without workers, and as a Hugging Face dataset."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import datasets
import pytest
import torch
from tiny import tiny_law
from torch.utils.data import DataLoader, IterableDataset

from joma.errors import BadInput
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import Law, Samples, balanced_tree
from joma.theory.belief import posterior
from joma.train.hierarchies import HierarchyStream, as_dataset, load_law, save_law

LAWS = [tiny_law(), balanced_tree((2, 3), 0.7)]


def plain(samples: Samples) -> list:
    """A batch as plain data, for comparison."""
    return [samples.tokens.tolist(), samples.labels.tolist(), [level.tolist() for level in samples.presence]]


def taken(stream: IterableDataset, num: int) -> list:
    return [plain(samples) for samples in islice(stream, num)]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shuffled", [False, True])
def test_stream_is_resumed_exactly_from_a_saved_state(law, shuffled):
    whole = taken(HierarchyStream(law, 4, seed=3, shuffled=shuffled), 10)
    first = HierarchyStream(law, 4, seed=3, shuffled=shuffled)
    before = taken(first, 5)
    state = json.loads(json.dumps(first.state_dict()))
    second = HierarchyStream(law, 4, seed=3, shuffled=shuffled)
    second.load_state_dict(state)
    assert before + taken(second, 5) == whole
    assert taken(first, 5) == whole[5:]  # a second loop over one stream goes on as well
    assert second.state_dict() == first.state_dict()


def test_batches_are_fresh_and_depend_on_the_seed():
    batches = [json.dumps(batch) for seed in (0, 1) for batch in taken(HierarchyStream(LAWS[1], 16, seed), 20)]
    assert len(set(batches)) == 40
    assert taken(HierarchyStream(LAWS[1], 16, first_batch=7), 1)[0] == plain(HierarchyStream(LAWS[1], 16).batch(7))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_give_every_batch_once_and_in_order(num_workers):
    law, alone = LAWS[0], taken(HierarchyStream(LAWS[0], 4, seed=3), 17)
    loader = DataLoader(HierarchyStream(law, 4, seed=3), batch_size=None, num_workers=num_workers)
    assert taken(loader, 11) == alone[:11]
    later = DataLoader(HierarchyStream(law, 4, seed=3, first_batch=11), batch_size=None, num_workers=num_workers)
    assert taken(later, 6) == alone[11:]


def test_workers_continue_from_the_position_of_the_stream():
    stream, alone = HierarchyStream(LAWS[0], 4, seed=3), taken(HierarchyStream(LAWS[0], 4, seed=3), 9)
    assert taken(stream, 3) == alone[:3]
    assert taken(DataLoader(stream, batch_size=None, num_workers=2), 6) == alone[3:]


class WithState(IterableDataset):
    """A stream whose workers yield their state with each batch, as for a loader that saves the states of workers."""

    def __init__(self, law: Law, states: dict[int, dict] | None = None) -> None:
        self.stream, self.states = HierarchyStream(law, 4, seed=3), states or {}

    def __iter__(self) -> Iterator[tuple]:
        worker = torch.utils.data.get_worker_info()
        assert worker is not None
        if worker.id in self.states:
            self.stream.load_state_dict(self.states[worker.id])
        for samples in self.stream:
            yield worker.id, self.stream.state_dict(), plain(samples)


def test_each_worker_can_be_resumed_from_its_state():
    states, before = {}, []
    for worker, state, batch in islice(DataLoader(WithState(LAWS[0]), batch_size=None, num_workers=2), 7):
        states[worker] = state
        before.append(batch)
    later = DataLoader(WithState(LAWS[0], states), batch_size=None, num_workers=2)
    after = [batch for _, _, batch in islice(later, 6)]
    alone = taken(HierarchyStream(LAWS[0], 4, seed=3), 20)
    counts = Counter(json.dumps(batch) for batch in before + after)
    assert before == alone[:7]
    assert set(counts.values()) == {1}
    # worker 0 had given four batches and worker 1 three: the next ones are 8, 7, 10, 9, ...
    assert after == [alone[number] for number in (8, 7, 10, 9, 12, 11)]


@pytest.mark.parametrize(
    "other",
    [
        HierarchyStream(LAWS[1], 4, seed=3),
        HierarchyStream(LAWS[0], 5, seed=3),
        HierarchyStream(LAWS[0], 4, seed=4),
        HierarchyStream(LAWS[0], 4, seed=3, shuffled=True),
    ],
)
def test_state_of_another_stream_is_refused(other):
    with pytest.raises(BadInput, match="the state of another stream"):
        HierarchyStream(LAWS[0], 4, seed=3).load_state_dict(other.state_dict())
    with pytest.raises(BadInput, match="the state of another stream"):
        other.load_state_dict({"epoch": 3})


@pytest.mark.parametrize("change", [{"first_batch": -3}, {"first_batch": "7"}, {"num_taken": 1.5}])
def test_invalid_state_is_refused(change):
    stream = HierarchyStream(LAWS[0], 4)
    with pytest.raises(BadInput, match=next(iter(change))):
        stream.load_state_dict({**stream.state_dict(), **change})
    assert taken(stream, 1) == taken(HierarchyStream(LAWS[0], 4), 1)


@pytest.mark.parametrize(
    "change", [{"batch_size": 0}, {"batch_size": 2.5}, {"batch_size": True}, {"batch_size": 4, "first_batch": -1}]
)
def test_invalid_stream_settings_are_refused(change):
    with pytest.raises(BadInput, match="HierarchyStream: `"):
        HierarchyStream(LAWS[0], **change)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here")
def test_stream_on_an_accelerator_is_resumed():
    whole = taken(HierarchyStream(LAWS[0], 4, device="cuda"), 6)
    first = HierarchyStream(LAWS[0], 4, device="cuda")
    assert next(iter(first)).tokens.is_cuda
    second = HierarchyStream(LAWS[0], 4, device="cuda")
    second.load_state_dict(first.state_dict())
    assert taken(second, 5) == whole[1:]


# --- a dataset


@pytest.mark.parametrize("law", LAWS)
def test_dataset_survives_saving_and_loading(law, tmp_path):
    dataset = as_dataset(law, 50, seed=1)
    dataset.save_to_disk(str(tmp_path / "samples"))
    again = datasets.load_from_disk(str(tmp_path / "samples"))
    assert again.features == dataset.features
    assert again[:] == dataset[:]
    levels = [f"level_{level}" for level in range(len(law.level_sizes))]
    assert dataset.column_names == ["tokens", "label", *levels]
    assert dataset.num_rows == 50


def test_dataset_contains_the_samples_of_the_law(monkeypatch):
    law = tiny_law()
    rows = as_dataset(law, 40, seed=1).with_format("torch")[:]
    assert rows["tokens"].shape == (40, law.length)
    assert rows["tokens"].dtype == rows["label"].dtype == torch.int64
    assert rows["level_1"].dtype == torch.bool
    reachable = {
        label: {token for top in law.members[2][label][0] for low in law.members[1][top][0] for token in
                law.members[0][low][0]}
        for label in range(law.num_labels)
    }  # fmt: skip
    for tokens, label in zip(rows["tokens"].tolist(), rows["label"].tolist(), strict=True):
        assert set(tokens) - {law.padding} <= reachable[label]
    assert set(rows["label"].tolist()) == set(range(6))
    assert as_dataset(law, 40, seed=1)[:] == as_dataset(law, 40, seed=1)[:]
    assert as_dataset(law, 40, seed=2)["tokens"][:] != rows["tokens"].tolist()
    monkeypatch.setattr("joma.train.hierarchies._NUM_AT_ONCE", 16)
    assert as_dataset(law, 40).num_rows == 40


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_latents_in_a_dataset_are_those_that_the_tokens_have(kind, tmp_path):
    law = RandomHierarchy(4, 4, 2, depth=3)
    dataset = as_dataset(law, 60, seed=1)
    if kind == "saved":
        dataset.save_to_disk(str(tmp_path / "samples"))
        read = datasets.load_from_disk(str(tmp_path / "samples"))
    else:
        dataset.to_parquet(str(tmp_path / "samples.parquet"))
        read = datasets.Dataset.from_parquet(str(tmp_path / "samples.parquet"), cache_dir=str(tmp_path / "cache"))
    assert read.features == dataset.features
    rows = read.with_format("torch")[:]
    found = posterior(law, rows["tokens"])
    assert torch.equal(found.labels.argmax(-1), rows["label"])
    for level, belief in enumerate(found.latents):
        assert torch.equal(belief.argmax(-1), rows[f"level_{level}"])


@pytest.mark.parametrize("num", [0, "3", 2.5, True])
def test_number_of_rows_that_cannot_be_is_refused(num):
    with pytest.raises(BadInput, match=f"`num` is {num!r}"):
        as_dataset(tiny_law(), num)


# --- files


@pytest.mark.parametrize("law", LAWS)
def test_law_survives_saving_and_loading(law, tmp_path: Path):
    save_law(law, tmp_path / "law.json")
    assert load_law(tmp_path / "law.json") == law
    assert [path.name for path in tmp_path.iterdir()] == ["law.json"]


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"3", b'"x"', b"{}", b"{", b"\xff", b"[" * 100_000, b'{"kind": {}}', b'{"law":' * 3000]
)
def test_file_that_holds_no_law_is_one_error(tmp_path: Path, content):
    (tmp_path / "law.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"law\.json cannot be read|no law of a hierarchy"):
        load_law(tmp_path / "law.json")


def test_laws_nested_in_each_other_without_end_are_one_error(tmp_path: Path):
    text = '{"kind": "unrelated_labels", "law": ' * 900 + "3" + ', "seed": 0}' * 900
    (tmp_path / "law.json").write_text(text)
    with pytest.raises(BadInput, match=r"more than 100 levels"):
        load_law(tmp_path / "law.json")
