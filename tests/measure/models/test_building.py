"""Models built from a configuration and tensors equal the saved ones bit for bit, or are refused with a reason."""

import json
import resource
import time

import pytest
import torch
from small_models import small_model
from transformers import AutoConfig

from joma.errors import BadInput
from joma.measure.models.building import built, configuration, longest_context, needed_names

KINDS = ["gpt_neox", "opt", "gpt2", "llama", "olmo2", "gemma2", "bert"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_built_model_gives_the_outputs_of_the_saved_one(kind):
    model = small_model(kind)
    config, tensors = model.config.to_dict(), dict(model.state_dict())
    tokens = torch.randint(3, 99, (1, 12), generator=torch.Generator().manual_seed(0))
    again = built(config, tensors, with_head=False)
    with torch.no_grad():
        assert torch.equal(again(tokens).last_hidden_state, model.eval()(tokens).last_hidden_state)
    assert not again.training


@pytest.mark.parametrize("kind", ["gpt_neox", "llama"])
def test_the_head_is_read_only_for_predictions(kind):
    model = small_model(kind, "AutoModelForCausalLM")
    tensors = dict(model.state_dict())
    without = needed_names(tensors, with_head=False)
    heads = set(tensors) - set(without)
    assert len(heads) == 1
    assert model.get_output_embeddings().weight is dict(model.named_parameters())[heads.pop()]
    assert needed_names(tensors, with_head=True) == list(tensors)
    assert built(model.config.to_dict(), {name: tensors[name] for name in without}, with_head=False)


def test_a_head_without_a_saved_embedding_is_read():
    assert needed_names({"lm_head.weight": torch.zeros(9, 4), "norm": torch.zeros(4)}, with_head=False) == [
        "lm_head.weight",
        "norm",
    ]


def test_missing_weights_are_named():
    model = small_model("llama")
    tensors = dict(model.state_dict())
    del tensors["layers.1.self_attn.k_proj.weight"]
    with pytest.raises(BadInput, match=r"layers\.1\.self_attn\.k_proj\.weight is missing"):
        built(model.config.to_dict(), tensors, with_head=False)


def test_infinite_weights_are_named():
    model = small_model("llama")
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors["layers.1.mlp.up_proj.weight"][3, 4] = float("inf")
    with pytest.raises(BadInput, match=r"layers\.1\.mlp\.up_proj\.weight is NaN or infinite in 1 of"):
        built(model.config.to_dict(), tensors, with_head=False)


def test_shapes_of_another_model_are_refused():
    model = small_model("llama")
    with pytest.raises(BadInput):
        built(model.config.to_dict() | {"hidden_size": 64}, dict(model.state_dict()), with_head=False)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"model_type": "their_own", "auto_map": {"AutoModel": "evil.Model"}}, "'their_own' cannot be run"),
        ({"model_type": "resnet", "depths": []}, "resnet"),
        ({"model_type": "joma", "recipe": {}}, "a run of joma"),
        ({}, "no model_type"),
    ],
)
def test_configurations_of_unknown_models_are_refused(config, problem):
    with pytest.raises(BadInput, match=problem):
        built(config, {}, with_head=True)


def test_an_encoder_with_a_head_is_refused():
    model = small_model("vit")
    with pytest.raises(BadInput, match="does not predict the next token"):
        built(model.config.to_dict(), dict(model.state_dict()), with_head=True)


@pytest.mark.parametrize(("kind", "context"), [("opt", 64), ("gpt2", 64), ("bert", 64), ("vit", None)])
def test_the_longest_context_is_read_from_the_configuration(kind, context):
    assert longest_context(small_model(kind).config.to_dict()) == context


def test_weights_of_more_layers_than_configured_are_refused():
    model = small_model("llama")
    tensors = dict(model.state_dict())
    with pytest.raises(BadInput, match=r"layers\.1\.\S+ is not part of a 'llama' .*, and so are 8 more"):
        built(model.config.to_dict() | {"num_hidden_layers": 1}, tensors, with_head=False)
    with pytest.raises(BadInput, match="is not part of"):
        built(model.config.to_dict() | {"num_hidden_layers": 0}, tensors, with_head=False)


def test_saved_masks_and_angles_of_older_models_are_ignored():
    model = small_model("gpt_neox")
    old = {f"layers.{layer}.attention.{name}": torch.ones(1) for layer in (0, 1) for name in ("bias", "masked_bias")}
    old |= {f"layers.{layer}.attention.rotary_emb.inv_freq": torch.ones(4) for layer in (0, 1)}
    assert built(model.config.to_dict(), dict(model.state_dict()) | old, with_head=False)


def test_a_tensor_of_another_shape_is_named_with_both():
    model = small_model("llama")
    tensors = dict(model.state_dict()) | {"layers.1.mlp.up_proj.weight": torch.zeros(48, 32)}
    with pytest.raises(
        BadInput, match=r"layers\.1\.mlp\.up_proj\.weight has the shape \(48, 32\) and not \(64, 32\)"
    ) as caught:
        built(model.config.to_dict(), tensors, with_head=False)
    assert "ignore_mismatched_sizes" not in str(caught.value)


HUGE = {
    "llama": ["num_hidden_layers", "num_labels", "vocab_size", "hidden_size", "intermediate_size", "head_dim"],
    "gpt2": ["n_layer", "n_positions", "n_embd", "vocab_size", "num_labels"],
    "opt": ["max_position_embeddings", "num_hidden_layers", "word_embed_proj_dim", "ffn_dim"],
    "bert": ["type_vocab_size", "num_hidden_layers", "max_position_embeddings", "num_labels"],
    "qwen2": ["max_window_layers", "num_hidden_layers", "num_attention_heads"],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in HUGE.items() for name in names])
@pytest.mark.parametrize("number", [300_000, 10_000_000, 10**9, 10**15])
def test_configurations_of_huge_models_end_at_once(kind, name, number):
    """A setting without effect on the weights may be huge; the others are refused before memory is allocated."""
    model = small_model(kind)
    config, tensors = model.config.to_dict() | {name: number}, dict(model.state_dict())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    if name not in ("max_window_layers", "num_labels") or number > 10**6:
        with pytest.raises(BadInput):
            built(config, tensors, with_head=False)
    else:
        built(config, tensors, with_head=False)
    assert time.process_time() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


@pytest.mark.parametrize("kind", ["bamba", "mamba2"])
def test_numbers_that_json_does_not_have_are_read_as_transformers_writes_them(tmp_path, kind):
    config = AutoConfig.for_model(kind)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "__float__" in str(written)
    assert configuration(written).to_dict() == AutoConfig.from_pretrained(tmp_path).to_dict() | {"_name_or_path": ""}


@pytest.mark.parametrize("kind", [["llama"], {"a": 1}, 3, True])
def test_a_model_type_that_is_no_text_is_refused(kind):
    with pytest.raises(BadInput, match="no model_type"):
        built({"model_type": kind}, {}, with_head=False)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"hidden_size": "wide"}, r"config\.json .* refused \(.*hidden_size"),
        ({"num_attention_heads": 0}, r"config\.json"),
        ({"pad_token_id": 10**6}, r"\(AssertionError"),
    ],
)
def test_errors_of_transformers_are_quoted(settings, problem):
    model = small_model("llama")
    with pytest.raises(BadInput, match=problem):
        built(model.config.to_dict() | settings, dict(model.state_dict()), with_head=False)
