"""A vision Transformer sees all patches, reads their mean, learns labels, and is resumed to the bit."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_law_recipe, tiny_pictures, tiny_recipe, tiny_tokens, tiny_vision_recipe

from joma.errors import BadInput, InvalidArgument
from joma.train.courses import course_of
from joma.train.decoder import Decoder, sinusoids
from joma.train.images.pictures import SUFFIX, as_input, save_pictures, with_permuted_labels
from joma.train.probes import PictureProbe
from joma.train.recipes import VISION_VARIANTS, recipe_from_json, vision_recipe
from joma.train.run import load_run
from joma.train.saved_runs import run_probe, saved_decoder
from joma.train.tasks import load_data, task_of
from joma.train.training import train
from joma.train.vision import VisionConfig, VisionTransformer, class_of, patches_of

CPU = torch.device("cpu")


def network(**changes) -> VisionTransformer:
    found = VisionTransformer(tiny_vision_recipe(**changes).decoder, seed=1)
    return found.eval()


def some_pictures(num: int = 5) -> torch.Tensor:
    return as_input(tiny_pictures().pixels[:num, 0])


def test_patches_are_squares_row_by_row():
    picture = torch.arange(64.0).view(1, 8, 8)
    patches = patches_of(picture, 4)
    assert patches.shape == (1, 4, 16)
    assert torch.equal(patches[0, 1].view(4, 4), picture[0, :4, 4:])
    assert torch.equal(patches[0, 2].view(4, 4), picture[0, 4:, :4])


def test_embedding_is_the_sum_of_pixel_vectors_weighted_by_ink_plus_row_and_column(tolerance):
    found, pictures = network(), some_pictures()
    vectors = found.embedding(torch.arange(16)) * 16**0.5
    expected = patches_of(pictures, 4) @ vectors
    along = sinusoids(2, 8)
    for patch, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[:, patch] += torch.cat([along[row], along[column]])
    torch.testing.assert_close(found.embedded(pictures), expected, atol=tolerance("decoder.parity"), rtol=0)


def test_prediction_depends_on_every_patch_and_not_on_the_order_of_pictures(tolerance):
    found, pictures = network(), some_pictures()
    logits = found(pictures, last_only=True)
    assert logits.shape == (5, 2)
    torch.testing.assert_close(
        found(pictures.flip(0), last_only=True).flip(0), logits, atol=tolerance("decoder.parity"), rtol=0
    )
    pictures.requires_grad_()
    (gradient,) = torch.autograd.grad(found.features(pictures)[:, 0].sum(), pictures)
    assert (patches_of(gradient, 4).abs().sum((0, 2)) > 0).all()  # the first patch sees the last one too


def test_attention_of_all_patches_is_what_the_observer_receives(tolerance):
    found, pictures, seen = network(num_layers=1, mlp=False, hidden=200), some_pictures(), []
    features = found.features(pictures, lambda layer, q, k: seen.append((q, k)))
    ((q, k),) = seen
    block, x = found.blocks[0], found.embedded(pictures)
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    values = block.value(x).unflatten(-1, (2, -1)).transpose(1, 2)
    attended = block.attention_output((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(features, block.norm_attention(x + attended), atol=tolerance("decoder.parity"), rtol=0)


def test_twin_with_a_linear_mlp_starts_from_the_same_weights():
    full, linear = (
        VisionTransformer(tiny_vision_recipe(variant=name).decoder, 3) for name in ("full network", "linear MLP")
    )
    assert all(torch.equal(one, linear.get_parameter(name)) for name, one in full.named_parameters())
    pictures = some_pictures()
    assert not torch.equal(full.eval()(pictures), linear.eval()(pictures))


@pytest.mark.parametrize("variant", VISION_VARIANTS)
def test_every_variant_takes_a_step_and_is_measured(variant, tmp_path):
    settings = {"hidden": 200} if variant == "no MLP" else {}
    recipe = tiny_vision_recipe(variant=variant, num_steps=1, **settings)
    metrics = {entry.metric for entry in train(recipe, tiny_pictures(), tmp_path).measurements()}
    assert {"attention_entropy_nats", "val_loss_nats", "val_accuracy"} <= metrics


def test_network_learns_labels_of_unseen_pictures_but_not_permuted_ones(tmp_path):
    pictures = tiny_pictures()
    runs = [
        train(tiny_vision_recipe(num_steps=120), some, tmp_path / name)
        for name, some in (("labels", pictures), ("permuted", with_permuted_labels(pictures, 0)))
    ]
    accuracies = [course_of([run], "val_accuracy", None).values[0, -1] for run in runs]
    assert accuracies[0] > 0.9
    assert accuracies[1] < 0.8


def test_interrupted_run_goes_on_to_the_same_numbers(tmp_path):
    recipe, pictures = tiny_vision_recipe(num_steps=30), tiny_pictures()

    def stop(what, done, total):
        if done == 17:
            raise KeyboardInterrupt

    whole = train(recipe, pictures, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, pictures, tmp_path / "parts", progress=stop)
    parts = train(recipe, pictures, tmp_path / "parts")
    assert [entry[1:] for entry in parts.measurements()] == [entry[1:] for entry in whole.measurements()]
    for name, tensor in whole.decoder().state_dict().items():
        assert torch.equal(parts.decoder().state_dict()[name], tensor)
    assert load_run(tmp_path / "parts").recipe == recipe
    with pytest.raises(BadInput, match="another run"):
        train(recipe, with_permuted_labels(pictures, 0), tmp_path / "parts")
    with pytest.raises(BadInput, match="learned pictures"):
        parts.law()


def test_probe_measures_each_layer_and_head_on_unseen_pictures(tolerance):
    recipe, pictures = tiny_vision_recipe(), tiny_pictures()
    unseen = pictures.split(0)[1]
    rows = PictureProbe(recipe, pictures, unseen, CPU).measure(network())
    whole = [row for row in rows if row.metric == "attention_entropy_nats" and row.group is None]
    assert [(row.layer, row.head) for row in whole] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    chosen = unseen[torch.linspace(0, len(unseen) - 1, 20).long()]
    logits = network()(as_input(pictures.pixels[chosen, 0]), last_only=True)
    values = {row.metric: row.value for row in rows}
    expected = torch.nn.functional.cross_entropy(logits, pictures.labels[chosen]).item()
    assert values["val_loss_nats"] == pytest.approx(expected, abs=tolerance("decoder.parity"))
    assert sum(row.metric == "stable_rank" for row in rows) == 2


def test_pictures_are_read_by_the_name_of_their_file(tmp_path):
    path = tmp_path / f"tiny{SUFFIX}"
    save_pictures(tiny_pictures(), path)
    assert load_data(path).digest == tiny_pictures().digest


def test_recipe_survives_json_and_chooses_the_network():
    recipe = tiny_vision_recipe()
    assert recipe_from_json(recipe.to_json()) == recipe
    assert class_of(recipe.decoder) is VisionTransformer
    assert class_of(tiny_recipe().decoder) is Decoder
    assert recipe_from_json(tiny_recipe().to_json()) == tiny_recipe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 3}, "a divisor of the 8 pixels"),
        ({"patch_size": 8}, "at most half"),
        ({"width": 18}, "a multiple of 4"),
        ({"vocabulary_size": 17}, "16, the pixels of a patch"),
        ({"num_outputs": None}, "the number of labels"),
        ({"variant": "linear MPL"}, "did you mean 'linear MLP'"),
        ({"variant": "SGD"}, "one of"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InvalidArgument, match=message):
        tiny_vision_recipe(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 5}, "length=4"),
        ({"loss": "linearised"}, "loss=cross_entropy"),
        ({"one_query": True}, "one_query=False"),
        ({"shuffle_tokens": True}, "shuffle_tokens=False"),
    ],
)
def test_recipe_for_other_data_is_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        task_of(replace(tiny_vision_recipe(), **changes), tiny_pictures(), CPU)
    with pytest.raises(BadInput, match=r"decoder.image_size=8"):
        task_of(tiny_law_recipe(), tiny_pictures(), CPU)
    with pytest.raises(BadInput):
        task_of(tiny_vision_recipe(), tiny_tokens(), CPU)


def test_saved_network_is_rebuilt_and_a_scan_of_its_text_is_refused(tmp_path):
    run = train(tiny_vision_recipe(num_steps=1), tiny_pictures(), tmp_path)
    config = {"recipe": run.recipe.to_json(), "versions": {}, "device": "cpu", "pictures": {"name": "tiny"}}
    rebuilt = saved_decoder(config, run.decoder().state_dict(), with_head=False)
    assert torch.equal(rebuilt(some_pictures()), run.decoder()(some_pictures(), last_only=True))
    with pytest.raises(BadInput, match="learned pictures"):
        run_probe(config, tmp_path)


def test_default_recipe_is_the_documented_one():
    config = vision_recipe(tiny_pictures(), num_steps=1).decoder
    assert isinstance(config, VisionConfig)
    assert (config.num_layers, config.width, config.num_heads, config.hidden, config.patch_size) == (3, 64, 4, 128, 4)
    assert config.num_patches == 4
