"""Models built from a configuration and tensors: the published ones to the bit, or a reason why not."""

import pytest
import torch
from small_models import small_model

from joma.errors import BadInput
from joma.measure.models.building import built, longest_context, needed_names

KINDS = ["gpt_neox", "opt", "gpt2", "llama", "olmo2", "gemma2", "bert"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_built_as_it_was(kind):
    model = small_model(kind)
    config, tensors = model.config.to_dict(), dict(model.state_dict())
    tokens = torch.randint(3, 99, (1, 12), generator=torch.Generator().manual_seed(0))
    again = built(config, tensors, with_head=False)
    with torch.no_grad():
        assert torch.equal(again(tokens).last_hidden_state, model.eval()(tokens).last_hidden_state)
    assert not again.training


@pytest.mark.parametrize("kind", ["gpt_neox", "llama"])
def test_the_head_is_read_only_where_it_is_needed(kind):
    model = small_model(kind, "AutoModelForCausalLM")
    tensors = dict(model.state_dict())
    without = needed_names(tensors, with_head=False)
    heads = set(tensors) - set(without)
    assert len(heads) == 1
    assert model.get_output_embeddings().weight is dict(model.named_parameters())[heads.pop()]
    assert needed_names(tensors, with_head=True) == list(tensors)
    assert built(model.config.to_dict(), {name: tensors[name] for name in without}, with_head=False)


def test_a_head_that_is_the_only_embedding_is_kept():
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
    ("config", "said"),
    [
        ({"model_type": "their_own", "auto_map": {"AutoModel": "evil.Model"}}, "'their_own' cannot be run here"),
        ({"model_type": "resnet", "depths": []}, "resnet"),
        ({"model_type": "joma", "recipe": {}}, "a run of joma"),
        ({}, "does not say"),
    ],
)
def test_what_is_no_known_transformer_is_refused(config, said):
    with pytest.raises(BadInput, match=said):
        built(config, {}, with_head=True)


def test_an_encoder_has_no_loss():
    model = small_model("vit")
    with pytest.raises(BadInput, match="does not predict the next token"):
        built(model.config.to_dict(), dict(model.state_dict()), with_head=True)


@pytest.mark.parametrize(("kind", "context"), [("opt", 64), ("gpt2", 64), ("bert", 64), ("vit", None)])
def test_the_longest_context(kind, context):
    assert longest_context(small_model(kind).config.to_dict()) == context


def test_a_configuration_of_fewer_layers_is_not_run_without_the_others():
    model = small_model("llama")
    tensors = dict(model.state_dict())
    with pytest.raises(BadInput, match=r"layers\.1\.\S+ is no part of a 'llama' .*, and so are 8 more"):
        built(model.config.to_dict() | {"num_hidden_layers": 1}, tensors, with_head=False)
    with pytest.raises(BadInput, match="is no part of"):
        built(model.config.to_dict() | {"num_hidden_layers": 0}, tensors, with_head=False)


def test_masks_and_angles_that_older_models_saved_are_no_weights():
    model = small_model("gpt_neox")
    old = {f"layers.{layer}.attention.{name}": torch.ones(1) for layer in (0, 1) for name in ("bias", "masked_bias")}
    old |= {f"layers.{layer}.attention.rotary_emb.inv_freq": torch.ones(4) for layer in (0, 1)}
    assert built(model.config.to_dict(), dict(model.state_dict()) | old, with_head=False)


def test_a_tensor_of_another_shape_is_named_with_both():
    model = small_model("llama")
    tensors = dict(model.state_dict()) | {"layers.1.mlp.up_proj.weight": torch.zeros(48, 32)}
    with pytest.raises(BadInput, match=r"layers\.1\.mlp\.up_proj\.weight is \(48, 32\) and not \(64, 32\)") as caught:
        built(model.config.to_dict(), tensors, with_head=False)
    assert "ignore_mismatched_sizes" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": "wide"}, r"config\.json .* refused \(.*hidden_size"),
        ({"num_attention_heads": 0}, r"config\.json"),
        ({"pad_token_id": 10**6}, r"\(AssertionError"),
    ],
)
def test_what_transformers_raises_of_any_kind_is_quoted(settings, said):
    model = small_model("llama")
    with pytest.raises(BadInput, match=said):
        built(model.config.to_dict() | settings, dict(model.state_dict()), with_head=False)
