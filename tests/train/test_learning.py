"""Training on a law: labels are learned unless they are shuffled, and snapshots are kept."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tiny import tiny_law, tiny_law_recipe, tiny_recipe, tiny_tokens

from joma.errors import BadInput, RunFailed
from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.tree import Samples, balanced_tree, digest
from joma.train.checkpoints import checkpoint_paths, path_of
from joma.train.probes import LabelProbe
from joma.train.recipes import hierarchy_recipe
from joma.train.run import Run, load_run
from joma.train.training import train

TABLE = random_hierarchy(8, (6, 8), 2, num_tokens=24, length=12, distinct_inputs=True)
LAW, RECIPE = tiny_law(), tiny_law_recipe()


def bytes_of(run: Run) -> list[bytes]:
    """All bytes of the measurements, the last checkpoint and the snapshots."""
    paths = [run.journal_path, checkpoint_paths(run.checkpoint_folder)[0]]
    return [path.read_bytes() for path in [*paths, *sorted(run.snapshot_folder.iterdir())]]


def last(run: Run, metric: str) -> float:
    (value,) = (row.value for row in run.measurements() if (row.step, row.metric) == (run.recipe.num_steps, metric))
    return value


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return train(RECIPE, LAW, tmp_path_factory.mktemp("runs") / "tiny")


# --- learning


@dataclass(frozen=True)
class ShuffledLabels(Combinatorial):
    """The same sequences with shuffled labels, so that there is nothing to learn."""

    def sample(
        self, num: int, generator: torch.Generator, labels: torch.Tensor | None = None, *, shuffled: bool = False
    ) -> Samples:
        samples = super().sample(num, generator, labels, shuffled=shuffled)
        order = torch.randperm(num, generator=generator, device=generator.device)
        return samples._replace(labels=samples.labels[order])

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"kind": "shuffled labels"}


def test_all_classes_of_a_table_are_learned_and_shuffled_labels_are_not(tmp_path):
    settings = {"num_steps": 80, "early_until": 0, "probe_every": 80, "width": 64, "hidden": 128}
    learned = train(hierarchy_recipe(TABLE, **settings), TABLE, tmp_path / "learned")
    nonsense = ShuffledLabels(**{name: getattr(TABLE, name) for name in TABLE.__dataclass_fields__})
    control = train(hierarchy_recipe(nonsense, **settings), nonsense, tmp_path / "control")
    assert last(learned, "val_accuracy") == 1.0
    assert last(control, "val_accuracy") < 0.3  # an eighth by luck, give or take a few hundredths of 512
    assert last(learned, "val_loss_nats") < 0.1 < last(control, "val_loss_nats")


def test_accuracy_on_a_latent_tree_reaches_the_bayes_classifier(tmp_path, tolerance):
    """Each of 8 tokens has little information; the Bayes classifier is the sign of their sum."""
    tree = balanced_tree((2, 2, 2), 0.9)
    recipe = hierarchy_recipe(tree, num_steps=120, early_until=0, probe_every=120, width=32, hidden=64)
    run = train(recipe, tree, tmp_path / "run")
    samples = tree.sample(4000, torch.Generator().manual_seed(1))
    num_present = (samples.tokens != tree.padding).sum(1)
    best = max(
        ((num_present > 4) == samples.labels).double().mean(), ((num_present >= 4) == samples.labels).double().mean()
    )
    start = next(row.value for row in run.measurements() if row.metric == "val_accuracy")
    assert start < 0.7
    assert last(run, "val_accuracy") > best - tolerance("learning.accuracy")


def test_law_with_shuffled_tokens_is_learned(tmp_path):
    settings = {"num_steps": 80, "early_until": 0, "probe_every": 80, "width": 64, "hidden": 128}
    run = train(hierarchy_recipe(TABLE, shuffle_tokens=True, **settings), TABLE, tmp_path / "run")
    assert last(run, "val_accuracy") > 0.95


def test_weight_decay_makes_weights_smaller(tmp_path):
    def size(weight_decay: float) -> float:
        run = train(tiny_law_recipe(weight_decay=weight_decay), LAW, tmp_path / f"{weight_decay}")
        return sum(weight.square().sum().item() for weight in run.decoder().parameters())

    assert size(0.1) < 0.9 * size(0.0)


# --- the record


def test_configuration_contains_the_law(finished):
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["law"]["digest"] == digest(LAW)
    assert "text" not in config
    assert finished.law() == LAW
    assert load_run(finished.folder) == finished
    assert {row.step for row in finished.measurements()} == set(RECIPE.probe_steps())
    text = train(tiny_recipe(num_steps=1), tiny_tokens(), finished.folder.parent / "text")
    assert not text.snapshot_folder.exists()
    with pytest.raises(BadInput, match="learned a text"):
        text.law()


def test_folder_of_another_law_is_refused_with_the_difference(finished):
    other = replace(LAW, show_probability=0.8)
    with pytest.raises(BadInput, match=r"definition.show_probability is 0.9 there and 0.8 here; digest is"):
        train(RECIPE, other, finished.folder)
    swapped = replace(LAW, members=(LAW.members[0][::-1], *LAW.members[1:]))
    with pytest.raises(BadInput, match=r"definition.members is \[\[\[.{60,80}… there and \[\[\[") as caught:
        train(RECIPE, swapped, finished.folder)
    assert len(str(caught.value)) < 800


def test_law_is_refused_in_the_folder_of_a_text(tmp_path):
    folder = train(tiny_recipe(num_steps=1), tiny_tokens(), tmp_path / "text").folder
    with pytest.raises(BadInput, match=r"another run: .*digest is 'tiny-3000' there and None here"):
        train(RECIPE, LAW, folder)


# --- snapshots


def test_every_snapshot_is_the_network_measured_at_its_step(finished):
    assert finished.snapshots() == [0, 16, 32, 48, 60]
    probe = LabelProbe(RECIPE, LAW, torch.device("cpu"))
    measured = {row.step: row.value for row in finished.measurements() if row.metric == "val_loss_nats"}
    for step in (0, 60):
        (loss,) = (row.value for row in probe.measure(finished.decoder(step)) if row.metric == "val_loss_nats")
        assert loss == measured[step]
    newest, final = finished.decoder().state_dict(), finished.decoder(60).state_dict()
    assert all(torch.equal(newest[name], weight) for name, weight in final.items())
    with pytest.raises(BadInput, match="no snapshot of step 17; expected one of 0, 16, 32, 48, 60"):
        finished.decoder(17)


class Stop(Exception):
    """Raised by the progress callback of a test."""


@pytest.mark.parametrize("step", [0, 1, 16, 23, 59])
def test_run_stopped_at_any_step_is_resumed_with_the_same_numbers(finished, tmp_path, step):
    def progress(_: str, done: float, total: float) -> None:
        if done == step:
            raise Stop

    with pytest.raises(Stop):
        train(RECIPE, LAW, tmp_path / "tiny", progress=progress)
    assert bytes_of(train(RECIPE, LAW, tmp_path / "tiny")) == bytes_of(finished)


@pytest.mark.parametrize("damage", ["removed", "altered"])
def test_damaged_snapshot_is_reported_and_written_again(finished, tmp_path, damage):
    run = train(RECIPE, LAW, tmp_path / "tiny")
    path = path_of(48, run.snapshot_folder)
    if damage == "removed":
        path.unlink()
        with pytest.raises(BadInput, match="no snapshot of step 48"):
            run.decoder(48)
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(RunFailed, match=r"no intact snapshot of step 48 .*train with the same recipe"):
            run.decoder(48)
    train(RECIPE, LAW, run.folder)
    assert bytes_of(run) == bytes_of(finished)
