"""The claims on images: networks that learn nothing hold none, and faults of data are named."""

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_pictures

from conclusions import faults
from joma.claims.image import mechanism, networks, parts, sparse_then_dense
from joma.claims.image.networks import every_pictures, pictures_with_parts
from joma.claims.workspace import Profile, Workspace
from joma.errors import BadInput, NotInstalled, RunFailed
from joma.records import Verdict, agreement_from_json
from joma.train.courses import course_of
from joma.train.images.kanji import character_folder
from joma.train.images.pictures import Part
from joma.train.run import load_run

CLAIMS = {"parts": parts, "sparse_then_dense": sparse_then_dense, "mechanism": mechanism}


@contextmanager
def tiny(num_steps, learning_rate=1e-12, pictures=None):
    """Make the claims small: bars of 8 × 8 pixels, and networks that are trained for some steps."""
    sizes = replace(networks.STUDIES[Profile.QUICK], num_steps=num_steps, learning_rate=learning_rate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.STUDIES, Profile.QUICK, replace(sizes, batch_size=4, probe_every=1))
        patch.setattr(networks, "kanji", lambda num_views: pictures or tiny_pictures())
        patch.setattr(sparse_then_dense, "NUM_ORDERS", 2)
        yield


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A workspace and the agreement of image.parts on networks that learn nothing."""
    with tiny(8):
        workspace = Workspace(tmp_path_factory.mktemp("untrained"), num_seeds=3, num_workers=1)
        return workspace, parts.evaluate(workspace)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder and the agreements of all claims on networks that learn bars, by name."""
    folder = tmp_path_factory.mktemp("trained")
    with tiny(40, learning_rate=3e-3):
        workspace = Workspace(folder, num_seeds=3, num_workers=1)
        return folder, {name: claim.evaluate(workspace) for name, claim in CLAIMS.items()}


@pytest.mark.parametrize("name", CLAIMS)
def test_conclusions_are_readable_and_evidence_can_be_written(trained, name):
    agreement = trained[1][name]
    assert not faults(agreement.conclusion)
    assert agreement_from_json(json.loads(json.dumps(agreement.to_json()))).verdict is agreement.verdict


def test_network_that_learns_nothing_has_no_gain(untrained):
    _, agreement = untrained
    assert agreement.verdict is Verdict.FAILS
    np.testing.assert_allclose(agreement.measured.values, 0, atol=1e-6)  # 1e-12 a step moves no unit past another
    assert {control.name for control in agreement.controls} == {
        parts.KINDS["other"],
        "parts shuffled across subjects",
        parts.PERMUTED,
    }
    assert {chart.id for chart in agreement.charts} == {"layers", "parts"}


@pytest.mark.parametrize("claim", [sparse_then_dense, mechanism])
def test_courses_of_networks_that_learn_nothing_are_not_read(untrained, claim):
    workspace, _ = untrained
    with tiny(8), pytest.raises(RunFailed, match="no better than the frequencies of classes"):
        claim.evaluate(workspace)


def test_networks_are_shared_between_claims(trained):
    folder, _ = trained
    names = {path.name.partition("_40-steps")[0] for path in (folder / "runs").iterdir()}
    assert names == {"tiny_full_network", "tiny_linear_MLP", "tiny_permuted_labels"}


def test_entropy_is_a_share_of_that_of_uniform_attention(trained):
    folder, _ = trained
    runs = [load_run(path) for path in sorted((folder / "runs").glob("tiny_full*"))]
    entropy = networks.entropy_of(runs)
    assert entropy.values.shape == (3, 41)
    assert (entropy.values > 0).all()
    assert (entropy.values <= 1).all()
    layers = [course_of(runs, networks.ENTROPY, layer).values for layer in range(3)]
    np.testing.assert_allclose(entropy.values * np.log(4), np.mean(layers, axis=0))


@pytest.mark.slow
def test_units_find_the_parts_of_real_characters_that_make_the_label_and_no_others(tmp_path):
    try:
        character_folder()
    except NotInstalled as missing:
        pytest.skip(str(missing))
    agreement = parts.evaluate(Workspace(tmp_path))
    assert agreement.verdict is Verdict.HOLDS
    areas = {finding.name: finding.estimate.mean for finding in agreement.findings}
    of_pixels = areas[f"AUC, {parts.KINDS['label']}: best pixel"]
    assert areas[f"AUC, {parts.KINDS['label']}: {parts.TRAINED}"] > of_pixels


def test_characters_are_drawn_once_and_read_again(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path)
    with tiny(1):
        first = pictures_with_parts(workspace)
    monkeypatch.setattr(networks, "kanji", None)
    assert pictures_with_parts(workspace).digest == first.digest


def test_pictures_without_parts_say_what_is_missing(tmp_path):
    bare = replace(tiny_pictures(), parts=(), presence=tiny_pictures().presence[:, :0])
    with tiny(1, pictures=bare), pytest.raises(BadInput, match="no part that makes a label often enough"):
        parts.evaluate(Workspace(tmp_path))


def test_parts_that_the_untrained_network_always_sees_are_refused():
    with pytest.raises(RunFailed, match="without an error"):
        parts._gain(np.array([1.0]), np.array([1.0]), np.array([True]))
    assert parts._gain(np.array([0.9, 0.1]), np.array([0.8, 0.7]), np.array([True, False])) == pytest.approx(0.5)


def test_depth_and_layer_are_correlated_in_the_trained_network_and_in_the_controls():
    depths = np.arange(40)
    known = tuple(Part(f"part {depth}", "label", float(depth)) for depth in depths)
    pictures, kinds = replace(tiny_pictures(), parts=known), np.array(["label"] * 40)
    layers = {parts.TRAINED: 2 - depths // 14, parts.UNTRAINED: depths // 14}
    trained, untrained, shuffled = parts._depths(pictures, [parts.Seed({}, {}, layers, {})] * 3, kinds)
    assert trained.estimate.mean < -0.9
    assert untrained.estimate.mean > 0.9
    assert abs(shuffled.estimate.mean) < 0.3
    assert len({round(value, 6) for value in shuffled.estimate.values}) == 3  # another order for each seed


def test_data_of_the_user_take_the_place_of_characters(tmp_path):
    pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install 'joma[images]'")
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadInput, match="0 tables"):
        pictures_with_parts(Workspace(tmp_path, data={"images": str(tmp_path / "mine")}))
    with tiny(1), pytest.raises(BadInput, match="Fashion-MNIST"):
        every_pictures(Workspace(tmp_path, data={"fashion": str(tmp_path)}))
