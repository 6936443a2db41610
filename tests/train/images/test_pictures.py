"""Pictures survive their file, are split by subject, and refuse what a network cannot learn from."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_pictures

from joma.errors import BadInput, RunFailed
from joma.train.images.pictures import (
    SUFFIX,
    load_pictures,
    require_pictures,
    save_pictures,
    with_permuted_labels,
)


def test_saved_pictures_are_the_same(tmp_path):
    pictures, path = tiny_pictures(), tmp_path / f"some{SUFFIX}"
    save_pictures(pictures, path)
    found = load_pictures(path)
    assert found.digest == pictures.digest
    assert (found.name, found.classes, found.parts) == (pictures.name, pictures.classes, pictures.parts)
    assert torch.equal(found.presence, pictures.presence)


def test_digest_depends_on_pixels_labels_and_parts():
    pictures = tiny_pictures()
    others = (
        with_permuted_labels(pictures, 0),
        replace(pictures, pixels=255 - pictures.pixels),
        replace(pictures, parts=pictures.parts[::-1]),
    )
    assert len({pictures.digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize("content", [b"", b"not pictures"])
def test_damaged_file_says_what_to_do(tmp_path, content):
    path = tmp_path / f"some{SUFFIX}"
    path.write_bytes(content)
    with pytest.raises(RunFailed, match="delete the file"):
        load_pictures(path)


def test_a_fifth_of_the_subjects_is_never_in_a_batch():
    pictures = tiny_pictures()
    seen, unseen = pictures.split(3)
    assert len(unseen) == len(pictures.labels) // 5
    assert sorted([*seen.tolist(), *unseen.tolist()]) == list(range(len(pictures.labels)))
    assert not torch.equal(unseen, pictures.split(4)[1])
    marked = replace(pictures, labels=torch.arange(len(pictures.labels)))
    batch, labels = marked.batch(seen, 500, torch.Generator().manual_seed(0))
    assert not set(labels.tolist()) & set(unseen.tolist())
    assert batch.shape == (500, 8, 8)
    assert 0 <= batch.min() <= batch.max() <= 1


def test_permuted_labels_are_the_same_labels_of_other_subjects():
    pictures = tiny_pictures()
    permuted = with_permuted_labels(pictures, 1)
    assert torch.equal(permuted.labels.bincount(), pictures.labels.bincount())
    assert not torch.equal(permuted.labels, pictures.labels)


def test_too_few_pictures_or_classes_are_refused():
    with pytest.raises(BadInput, match="19 labelled pictures of 2 classes"):
        require_pictures(tiny_pictures(19))
    with pytest.raises(BadInput, match="of 1 class;"):
        require_pictures(replace(tiny_pictures(), classes=("one",)))
