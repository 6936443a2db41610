import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from joma.tensorfiles import digest_of
from joma.train.checkpoints import (
    checkpoint_of,
    checkpoint_paths,
    is_whole,
    newest_checkpoint,
    path_of,
    read_checkpoint,
    read_snapshot,
    restore,
    write_checkpoint,
    write_snapshot,
)
from joma.train.decoder import Decoder, DecoderConfig

CONFIG = DecoderConfig(20, width=8, hidden=8, dropout=0.0, train_value_path=False)


def learner(seed: int) -> tuple[Decoder, torch.optim.Optimizer]:
    decoder = Decoder(CONFIG, seed)
    return decoder, torch.optim.Adam([p for p in decoder.parameters() if p.requires_grad], lr=0.01, fused=True)


def learn(decoder: Decoder, optimizer: torch.optim.Optimizer) -> None:
    tokens = torch.arange(12).view(2, 6)
    optimizer.zero_grad()
    decoder.loss(tokens, tokens + 1).backward()
    optimizer.step()


@pytest.fixture
def folder(tmp_path):
    decoder, optimizer = learner(0)
    for step in (1, 2, 3):
        learn(decoder, optimizer)
        write_checkpoint(checkpoint_of(step, decoder, optimizer, step / 3, step), tmp_path)
    return tmp_path


def test_restored_model_continues_with_the_same_numbers(folder):
    decoder, optimizer = learner(0)
    for _ in range(5):
        learn(decoder, optimizer)
    other, other_optimizer = learner(99)
    checkpoint = read_checkpoint(checkpoint_paths(folder)[0])
    assert (checkpoint.step, checkpoint.loss_sum, checkpoint.num_losses) == (3, 1.0, 3)
    restore(checkpoint, other, other_optimizer)
    for _ in range(2):
        learn(other, other_optimizer)
    for name, weight in decoder.named_parameters():
        assert torch.equal(weight, other.get_parameter(name)), name


def test_only_the_two_newest_checkpoints_are_kept(folder):
    assert [path.name for path in checkpoint_paths(folder)] == ["step_000003.safetensors", "step_000002.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == ["step_000002.safetensors", "step_000003.safetensors"]


def test_the_same_state_gives_the_same_bytes(folder, tmp_path):
    path = checkpoint_paths(folder)[0]
    decoder, optimizer = learner(7)
    checkpoint = read_checkpoint(path)
    restore(checkpoint, decoder, optimizer)
    write_checkpoint(checkpoint_of(3, decoder, optimizer, 1.0, 3), tmp_path / "again")
    assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_damaged_checkpoint_is_removed_and_the_previous_one_used(folder):
    newest, before = checkpoint_paths(folder)
    content, dice = newest.read_bytes(), random.Random(0)
    damaged = [content[: dice.randrange(len(content))] for _ in range(10)]
    for _ in range(60):
        altered = bytearray(content)
        altered[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        damaged.append(bytes(altered))
    for bad in [*damaged, b"", b"something else"]:
        newest.write_bytes(bad)
        with pytest.warns(UserWarning, match=f"{newest.name} is damaged"):
            found = newest_checkpoint(folder, learner(0)[0], before=100)
        assert found is not None
        assert found.step == 2
    assert checkpoint_paths(folder) == [before]


def test_no_checkpoint_is_found_if_all_are_damaged(folder):
    for path in checkpoint_paths(folder):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged"):
        assert newest_checkpoint(folder, learner(0)[0], before=100) is None


def rewritten(path, change):
    """Replace the metadata of a file by ``change`` of it, with a digest that matches."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["joma"])
    facts.pop("digest")
    tensors, facts = load_file(path), change(facts)
    if isinstance(facts, dict):
        facts |= {"digest": digest_of(facts, tensors)}
    save_file(tensors, path, {"joma": json.dumps(facts)})


@pytest.mark.parametrize(
    "change",
    [
        *(lambda facts, other=other: other for other in ([], None, 3, "x", {})),
        lambda facts: facts | {"speed": 3},
        lambda facts: facts | {"loss_sum": "1"},
        lambda facts: facts | {"num_losses": 2.5},
        lambda facts: facts | {"step": True},
        lambda facts: facts | {"step": 2},
    ],
)
def test_checkpoint_with_metadata_of_another_shape_is_removed_and_the_previous_one_used(folder, change):
    newest = checkpoint_paths(folder)[0]
    rewritten(newest, change)
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged"):
        found = newest_checkpoint(folder, learner(0)[0], before=100)
    assert found is not None
    assert found.step == 2


def test_checkpoint_of_another_step_or_network_is_not_used(folder, tmp_path):
    newest, before = checkpoint_paths(folder)
    shutil.copy(before, newest)
    with pytest.warns(UserWarning, match="it is of step 2"):
        newest_checkpoint(folder, learner(0)[0], before=100)
    for change in ({"width": 16}, {"num_layers": 2}, {"hidden": 4}, {"layer_norm": False}):
        place = shutil.copytree(folder, tmp_path / str(change))
        other = Decoder(replace(CONFIG, **change))
        weights = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        with pytest.warns(UserWarning, match="it is of another network"):
            assert newest_checkpoint(place, other, before=100) is None
        assert all(torch.equal(tensor, weights[name]) for name, tensor in other.state_dict().items())


def test_snapshot_of_another_step_is_not_whole(tmp_path):
    decoder, _ = learner(0)
    write_snapshot(7, decoder, tmp_path)
    shutil.copy(path_of(7, tmp_path), path_of(8, tmp_path))
    assert not is_whole(path_of(8, tmp_path))
    with pytest.raises(ValueError, match="it is of step 7"):
        read_snapshot(path_of(8, tmp_path))


def test_checkpoints_after_the_first_missing_measurement_are_removed(folder):
    found = newest_checkpoint(folder, learner(0)[0], before=3)
    assert found is not None
    assert found.step == 2
    assert [path.name for path in checkpoint_paths(folder)] == ["step_000002.safetensors"]


def test_snapshot_contains_the_weights_and_is_written_once(tmp_path):
    decoder, optimizer = learner(0)
    write_snapshot(7, decoder, tmp_path)
    before = {name: weight.detach().clone() for name, weight in decoder.named_parameters()}
    learn(decoder, optimizer)
    write_snapshot(7, decoder, tmp_path)  # whole already: the first one stays
    assert [path.name for path in tmp_path.iterdir()] == ["step_000007.safetensors"]
    weights = read_snapshot(path_of(7, tmp_path))
    assert weights.keys() == before.keys()
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())


def test_damaged_snapshot_is_detected_and_written_again(tmp_path):
    decoder, _ = learner(0)
    path = path_of(7, tmp_path)
    assert not is_whole(path)
    write_snapshot(7, decoder, tmp_path)
    content, dice = path.read_bytes(), random.Random(0)
    for _ in range(30):
        altered = bytearray(content)
        altered[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(altered)
        assert not is_whole(path)
        with pytest.raises(ValueError, match=r"."):
            read_snapshot(path)
        write_snapshot(7, decoder, tmp_path)
        assert path.read_bytes() == content
