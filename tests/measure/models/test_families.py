import pytest
import torch
from small_models import CONFIGS, small_batch, small_model

from joma.errors import BadInput
from joma.measure.models.families import heads_of, kind_of, projections
from joma.train.decoder import Decoder, DecoderConfig

SECOND = 1  # the head and the layer under test


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    model = small_model(request.param)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model


def parts_of(model, config=None):
    """Return the projections of the second layer, as views of the model's weights."""
    state = model.state_dict()
    found = projections(model.config if config is None else config, state)
    assert {part.layer for part in found} == {0, 1}
    return {part.role: part.of(state[part.tensor]) for part in found if part.layer == SECOND}


def outcome(model, blinded=None):
    """Return the kernel inputs of the second layer and the model's output; the head ``blinded`` attends to nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    calls = []

    def attend(module, query, key, value, mask, **settings):
        attended, _ = sdpa_attention_forward(module, query, key, value, mask, **{**settings, "softcap": None})
        calls.append({"query": query, "key": key, "value": value})
        if blinded is not None and len(calls) == SECOND + 1:
            attended[:, :, blinded] = 0
        return attended, None

    AttentionInterface.register("of_this_test", attend)
    AttentionMaskInterface.register("of_this_test", sdpa_mask)
    model.set_attn_implementation("of_this_test")
    with torch.no_grad():
        hidden = model(**small_batch(model.config.model_type)).last_hidden_state
    return calls[SECOND], hidden


@pytest.fixture
def weights_kept(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    yield
    model.load_state_dict(before)


@pytest.mark.usefixtures("weights_kept")
@pytest.mark.parametrize("role", ["query", "key", "value"])
def test_a_head_without_its_weights_receives_zeros_and_the_others_do_not(model, role):
    parts_of(model)[role][SECOND] = 0
    given = outcome(model)[0][role]
    empty = (given == 0).all(-1).all(-1).all(0)
    assert empty.tolist() == [head == SECOND for head in range(given.shape[1])]


@pytest.mark.usefixtures("weights_kept")
def test_a_head_without_its_output_weights_has_no_effect(model, tolerance):
    expected = outcome(model, blinded=SECOND)[1]
    assert not torch.equal(expected, outcome(model)[1])
    parts_of(model)["output"][SECOND] = 0
    torch.testing.assert_close(outcome(model)[1], expected, rtol=0, atol=tolerance("capture.outputs"))


@pytest.mark.usefixtures("weights_kept")
def test_lower_gate_and_upper_projections_share_their_hidden_units(model, tolerance):
    parts, before = parts_of(model), model.state_dict()
    kept = {role: parts[role].clone() for role in parts}
    ends = []
    for role in ("mlp_lower", "mlp_upper", "mlp_gate"):
        if role in parts:
            (parts[role] if role != "mlp_upper" else parts[role].T)[3] = 0
            ends.append(outcome(model)[1])
            parts[role].copy_(kept[role])
    assert not torch.equal(ends[0], outcome(model)[1])
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=tolerance("capture.outputs"))
    assert before.keys() == model.state_dict().keys()


@pytest.mark.usefixtures("weights_kept")
@pytest.mark.parametrize("model", ["llama", "gemma2", "phi3"], indirect=True)
def test_the_lower_projection_is_the_linear_one_and_the_gate_is_not(model, tolerance):
    parts = parts_of(model)
    doubled = []
    for role in ("mlp_upper", "mlp_lower", "mlp_gate"):
        parts[role].mul_(2)
        doubled.append(outcome(model)[1])
        parts[role].div_(2)
    torch.testing.assert_close(doubled[1], doubled[0], rtol=0, atol=tolerance("capture.outputs"))
    assert (doubled[2] - doubled[0]).abs().max() > 100 * tolerance("capture.outputs")


def test_config_json_and_the_configuration_object_give_the_same_projections(model, tmp_path):
    import json

    model.config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert heads_of(saved) == heads_of(model.config)
    for role, part in parts_of(model, saved).items():
        assert torch.equal(part, parts_of(model)[role])


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.gpt_neox."])
def test_prefixes_of_names_are_ignored(prefix):
    state = small_model("gpt_neox").state_dict()
    plain = projections(CONFIGS["gpt_neox"] | {"model_type": "gpt_neox"}, state)
    found = projections(CONFIGS["gpt_neox"] | {"model_type": "gpt_neox"}, [prefix + name for name in state])
    assert [part.tensor for part in found] == [prefix + part.tensor for part in plain]


def test_vit_weights_with_names_from_before_transformers_5_are_found():
    new = [part.tensor for part in projections(small_model("vit").config, small_model("vit").state_dict())]
    old = [
        f"vit.encoder.layer.0.{name}.weight"
        for name in (
            *(f"attention.attention.{role}" for role in ("query", "key", "value")),
            *("attention.output.dense", "intermediate.dense", "output.dense"),
        )
    ]
    found = projections(small_model("vit").config, old)
    assert [part.tensor for part in found] == old
    assert len(new) == 2 * len(old)


def test_the_projections_of_the_own_decoder_give_its_queries():
    decoder = Decoder(DecoderConfig(20, width=8, num_heads=2, hidden=6, num_layers=2))
    state = decoder.state_dict()
    config = {"recipe": {"decoder": {"num_heads": 2}}}
    assert kind_of(config) == "joma"
    parts = {(part.layer, part.role): part.of(state[part.tensor]) for part in projections(config, state)}
    assert torch.equal(parts[1, "mlp_lower"], decoder.lower_weights()[1])
    seen = {}
    tokens = torch.tensor([[1, 2, 3]])
    decoder.eval()(tokens, observe=lambda layer, q, k: seen.setdefault(layer, (q, k)))
    x = decoder._positions(3) + decoder.embedding(tokens) * 8**0.5
    for role, given in zip(("query", "key"), seen[0], strict=True):
        torch.testing.assert_close(given, torch.einsum("bld,hed->bhle", x, parts[0, role]))


def test_projections_of_a_model_without_an_attention_kernel_are_those_of_its_heads():
    """MPT has its own names of settings and weights and calls no kernel, so its attention weights are compared."""
    import transformers

    torch.manual_seed(0)
    config = transformers.MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=99, max_seq_len=64)
    model = transformers.MptModel(config).eval()
    state = model.state_dict()
    parts = {
        part.role: part.of(state[part.tensor]) for part in projections(model.config, state) if part.layer == SECOND
    }
    texts = torch.randint(99, (2, 12))

    def looks_at_the_text(*roles):
        """Return whether the attention of each head of the second layer depends on the text."""
        kept = {role: parts[role][SECOND].clone() for role in roles}
        for role in roles:
            parts[role][SECOND] = 0
        with torch.no_grad():
            one, other = model(texts, output_attentions=True).attentions[SECOND]
        for role, part in kept.items():
            parts[role][SECOND] = part
        return [not torch.equal(*of_head) for of_head in zip(one, other, strict=True)]

    assert looks_at_the_text() == [True] * 4
    assert looks_at_the_text("query") == looks_at_the_text("key") == [head != SECOND for head in range(4)]
    ends = []
    for role in ("value", "output"):
        kept = parts[role][SECOND].clone()
        parts[role][SECOND] = 0
        ends.append(model(texts).last_hidden_state)
        parts[role][SECOND] = kept
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], model(texts).last_hidden_state)


ZEBRA = {"model_type": "zebra", "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}


def test_an_unknown_kind_with_known_names_is_read_by_its_names():
    model = small_model("llama")
    found = projections(ZEBRA, model.state_dict())
    assert [(part.layer, part.role, part.tensor) for part in found] == [
        (part.layer, part.role, part.tensor) for part in projections(model.config, model.state_dict())
    ]


def unknown_model(kind, **settings):
    import transformers

    config = transformers.AutoConfig.for_model(kind, **CONFIGS["llama"], **settings)
    return transformers.AutoModel.from_config(config)


def test_an_unknown_kind_with_experts_is_read_with_them():
    model = unknown_model("mixtral", num_local_experts=2)
    found = projections(model.config, model.state_dict())
    assert {part.role for part in found if part.part is None} == {"query", "key", "value", "output"}
    assert {part.role for part in found if part.part == "experts"} == {"mlp_lower", "mlp_gate", "mlp_upper"}
    query = model.layers[1].self_attn.q_proj.weight
    (part,) = (part for part in found if (part.layer, part.role) == (1, "query"))
    assert torch.equal(part.of(query)[2], query[16:24])


def test_a_tensor_of_an_unknown_kind_that_holds_more_than_heads_is_refused():
    """The query's tensor also holds a gate for each head."""
    model = unknown_model("qwen3_next", num_experts=0, layer_types=["full_attention"] * 2, head_dim=8)
    parts = {part.role: part for part in projections(model.config, model.state_dict()) if part.layer == 0}
    tensors = dict(model.named_parameters())
    with pytest.raises(BadInput, match=r"q_proj.weight has 16 dimensions per head, .* only the query"):
        parts["query"].of(tensors[parts["query"].tensor])
    for role, shape in {"key": (2, 8, 32), "output": (4, 32, 8), "mlp_lower": (64, 32)}.items():
        assert parts[role].of(tensors[parts[role].tensor]).shape == shape


@pytest.mark.parametrize("role", ["key", "value", "output"])
def test_tensors_of_an_unknown_kind_with_another_head_size_are_refused(role):
    found = projections({**ZEBRA, "head_dim": 4}, small_model("llama").state_dict())
    (part,) = (part for part in found if (part.layer, part.role) == (0, role))
    with pytest.raises(BadInput, match=f"has 8 dimensions per head, .* heads have 4.*only the {role}"):
        part.of(small_model("llama").state_dict()[part.tensor])


def test_an_unknown_kind_without_a_head_size_is_refused():
    config = {name: value for name, value in ZEBRA.items() if name != "hidden_size"}
    with pytest.raises(BadInput, match="'zebra' configuration, of an unknown kind, has no size of heads"):
        projections(config, small_model("llama").state_dict())


def test_an_unknown_kind_with_missing_tensors_is_reported_as_unknown():
    names = [name for name in small_model("llama").state_dict() if "v_proj" not in name]
    with pytest.raises(BadInput, match="the kind 'zebra' are not named as in any known family"):
        projections(ZEBRA, names)


def test_an_unknown_kind_with_fused_weights_is_refused():
    with pytest.raises(BadInput, match="the kind 'zebra' are not named as in any known family"):
        projections(
            {"model_type": "zebra", "num_attention_heads": 4, "num_key_value_heads": 4},
            small_model("gpt2").state_dict(),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda names: [name for name in names if "1.mlp.up_proj" not in name],
            "layer 1 has no layers.1.mlp.up_proj.weight",
        ),
        (
            lambda names: names + [f"other.{name}" for name in names],
            "several stacks of layers \\(\\(none\\), other.\\)",
        ),
        (lambda names: ["conv1.weight"], "the tensors of .* are not named"),
    ],
)
def test_names_that_fit_no_family_are_refused(change, message):
    with pytest.raises(BadInput, match=message):
        projections({"model_type": "llama", **CONFIGS["llama"]}, change(list(small_model("llama").state_dict())))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no model_type"),
        ({"model_type": "resnet"}, "'resnet' model is not a Transformer"),
        (
            {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 3},
            "4 attention heads and 3 key heads",
        ),
    ],
)
def test_a_configuration_without_heads_is_refused(config, message):
    with pytest.raises(BadInput, match=message):
        projections(config, ["layers.0.self_attn.q_proj.weight"])


def test_weights_with_shapes_other_than_configured_are_refused():
    found = projections({"model_type": "gpt_neox", **CONFIGS["gpt_neox"]}, small_model("gpt_neox").state_dict())
    with pytest.raises(BadInput, match=r"shape \(95, 32\) does not split into the query of 4 heads"):
        found[0].of(torch.zeros(95, 32))


def stored_as_linear(width: int, heads: int) -> dict[str, torch.Tensor]:
    """The weights of nanoGPT, which has GPT-2's names but stores outputs by inputs."""
    shapes = {"attn.c_attn": (3 * width, width), "attn.c_proj": (width, width)}
    shapes |= {"mlp.c_fc": (4 * width, width), "mlp.c_proj": (width, 4 * width)}
    return {f"transformer.h.0.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(("width", "heads"), [(48, 4), (32, 4), (24, 2), (60, 5)])
@pytest.mark.parametrize("role", ["query", "key", "value", "mlp_lower", "mlp_upper"])
def test_weights_of_gpt2_that_are_stored_the_other_way_round_are_refused(width, heads, role):
    state = stored_as_linear(width, heads)
    found = projections({"model_type": "gpt2", "n_embd": width, "n_head": heads}, state)
    (part,) = (part for part in found if part.role == role)
    with pytest.raises(BadInput, match=r"does not split|has the width \d+ as .* the other way round, transpose them"):
        part.of(state[part.tensor])
    assert part.of(state[part.tensor].T).shape[-1 if role != "mlp_upper" else -2] == width


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "phi3", "opt", "bert"])
def test_weights_of_known_kinds_with_another_head_size_are_refused(kind):
    model = small_model(kind)
    config = model.config.to_dict() | {"head_dim": 4, "num_attention_heads": 4, "num_key_value_heads": 4}
    state = model.state_dict()
    (part,) = (part for part in projections(config, state) if (part.layer, part.role) == (0, "output"))
    with pytest.raises(BadInput, match=r"has 8 dimensions per head, .* heads have 4"):
        part.of(state[part.tensor])


def test_a_layer_with_a_huge_number_is_named_at_once():
    names = [name.replace("layers.1.", f"layers.{10**12}.") for name in small_model("llama").state_dict()]
    with pytest.raises(BadInput, match=r"layer 1 has no layers\.1\."):
        projections(small_model("llama").config, names)


def test_a_missing_layer_is_named():
    model = small_model("llama", num_hidden_layers=3)
    names = [name for name in model.state_dict() if not name.startswith("layers.1.")]
    with pytest.raises(BadInput, match=r"layer 1 has no layers\.1\."):
        projections(model.config, names)


def test_a_recipe_without_a_decoder_is_refused():
    for recipe in ("with eggs", {}, {"decoder": None}):
        with pytest.raises(BadInput, match="recipe"):
            heads_of({"recipe": recipe})
    assert heads_of({"model_type": "llama", "num_attention_heads": 4, "recipe": "with eggs"}).query == 4


def test_a_setting_that_varies_across_layers_is_refused():
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.AutoConfig.for_model(
        "llama", **sizes, vocab_size=99, num_key_value_heads=2, per_layer_config={1: {"num_key_value_heads": 4}}
    )
    with pytest.raises(BadInput, match="num_key_value_heads varies across the layers of a 'llama' model"):
        heads_of(config)
