"""Layers are modules, numbered as their ranks, whatever the batch."""

import pytest
import torch
from small_models import CONFIGS, small_batch, small_model
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import joma
from joma.errors import BadInput
from joma.measure.capture.calls import LayerMetrics
from joma.measure.capture.kernels import observing
from joma.measure.capture.layers import projections_of
from joma.measure.watch.probing import AttentionProbe

ENTROPY = "attention_entropy_nats"


def measured(model, *args, **kwargs):
    """Return the metrics of a model's layers in one forward pass."""
    found = LayerMetrics()
    with torch.no_grad(), observing(model, found.add):
        model(*args, **kwargs)
    return found


def entropy_of(weights):
    """Return the mean entropy of each head over all queries of several (B, H, L, S) weights."""
    nats = [torch.special.entr(part.double()).sum(-1).transpose(1, 2).flatten(0, 1) for part in weights]
    return torch.cat(nats).mean(0)


def sees_images():
    """Return a model of images and text: three layers that read text, and two that read images."""
    import transformers

    torch.manual_seed(0)
    text = {**CONFIGS["llama"], "num_hidden_layers": 3, "vocab_size": 120, "initializer_range": 0.3}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 8}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "initializer_range": 0.3}
    tokens = {"image_token_id": 110, "video_token_id": 111, "vision_start_token_id": 112, "vision_end_token_id": 113}
    config = transformers.AutoConfig.for_model("qwen2_vl", text_config=text, vision_config=vision, **tokens)
    return transformers.AutoModel.from_config(config).eval()


def images(*sizes):
    """Return a text with images of these numbers of patches per side."""
    marked = [token for size in sizes for token in [112] + [110] * (size // 2) ** 2 + [113, 5, 6, 7]]
    ids = torch.tensor([[5, 6, 7, *marked]])
    batch = {"input_ids": ids, "mm_token_type_ids": (ids == 110).long()}
    if sizes:
        num_patches = sum(size**2 for size in sizes)
        pixels = torch.randn(num_patches, 384, generator=torch.Generator().manual_seed(1))
        batch |= {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, size, size] for size in sizes])}
    return batch


@pytest.mark.parametrize("sizes", [(), (8,), (8, 4, 8)])
def test_numbers_do_not_depend_on_how_many_images_a_batch_has(sizes):
    model = sees_images()
    with joma.watch(model, images(*sizes)) as probe:
        rows = list(probe.measurements())
    assert {row.layer for row in rows if row.metric == ENTROPY} == set(range(5 if sizes else 3))
    assert {row.layer for row in rows if row.metric == "stable_rank"} == {0, 1, 2}
    names = [f"language_model.layers.{layer}.self_attn" for layer in range(3)]
    names += [f"visual.blocks.{layer}.attn" for layer in range(2)]
    assert measured(model, **images(*sizes)).names == dict(enumerate(names[: 5 if sizes else 3]))


def test_attention_within_each_image_is_one_layer_over_all_images(monkeypatch, tolerance):
    from transformers.models.qwen2_vl import modeling_qwen2_vl

    model, batch = sees_images(), images(8, 4)
    found, attend, weights = measured(model, **batch).of_layers, modeling_qwen2_vl.eager_attention_forward, {}

    def recorded(module, *args, **kwargs):
        output = attend(module, *args, **kwargs)
        weights.setdefault(module, []).append(output[1])
        return output

    monkeypatch.setattr(modeling_qwen2_vl, "eager_attention_forward", recorded)
    model.double().set_attn_implementation("eager")
    with torch.no_grad():
        model(**{**batch, "pixel_values": batch["pixel_values"].double()})
    for layer, block in enumerate(model.visual.blocks, start=3):
        assert [part.shape[-1] for part in weights[block.attn]] == [64, 16]
        expected = entropy_of(weights[block.attn])
        assert (found[layer][ENTROPY].value - expected).abs().max() <= tolerance("attention.entropy")


def test_a_module_that_several_layers_share_is_one_layer_over_all_its_calls(tolerance):
    import transformers

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 99,
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "initializer_range": 0.3,
    }
    config = transformers.AutoConfig.for_model("albert", **sizes, num_attention_heads=4, intermediate_size=64)
    model = transformers.AutoModel.from_config(config).eval()
    with joma.watch(model, {"input_ids": small_batch("bert")["input_ids"]}, measures="attention") as probe:
        rows = [row for row in probe.measurements() if row.metric == ENTROPY]
    model.double().set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(input_ids=small_batch("bert")["input_ids"], output_attentions=True).attentions
    assert [(row.layer, row.head) for row in rows] == [(0, head) for head in range(4)]
    values = torch.tensor([row.value for row in rows]).double()
    assert (values - entropy_of(weights)).abs().max() <= tolerance("attention.entropy")


def test_numbers_below_zero_are_not_taken_from_a_model():
    import transformers

    sizes = {**CONFIGS["llama"], "num_hidden_layers": 5, "mamba_headdim": 8, "mamba_ngroups": 1, "mamba_d_state": 8}
    kinds = {"hybrid_layer_ids": [1, 3], "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "mamba"]}
    sizes |= {"num_mem_blocks": 1, "use_mem_eff_path": False, "mamba_expand": 2, "adapter_rank": 4}
    config = transformers.AutoConfig.for_model("zamba2", **sizes, **kinds, n_mamba_heads=8)
    model = transformers.AutoModel.from_config(config).eval()
    assert [block.shared_transformer.self_attn.layer_idx for block in (model.layers[1], model.layers[3])] == [-1, -1]
    names = measured(model, torch.randint(3, 99, (2, 8))).names
    assert names == {0: "layers.1.shared_transformer.self_attn", 1: "layers.3.shared_transformer.self_attn"}


def torch_decoder():
    layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerDecoder(layer, 2), (torch.randn(2, 5, 16), torch.randn(2, 7, 16))


def cross_attending_bert():
    model = small_model("bert", is_decoder=True, add_cross_attention=True)
    batch = {"input_ids": small_batch("bert")["input_ids"], "encoder_hidden_states": torch.randn(3, 6, 32)}
    return model, batch


def behind_a_stem():
    """A model that attends once before the layers whose ranks are known."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.Sequential(Stem(), nn.TransformerEncoder(layer, 2)), (torch.randn(2, 5, 16),)


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        return self.attend(x, x, x)[0]


@pytest.mark.parametrize("build", [torch_decoder, cross_attending_bert, behind_a_stem])
def test_attention_has_the_number_of_the_ranks_of_its_queries(build):
    model, batch = build()
    rows = AttentionProbe(model, batch).rows()
    args, kwargs = ((), batch) if isinstance(batch, dict) else (batch, {})
    names = measured(model.eval(), *args, **kwargs).names
    ranked = {part.layer: part.tensor for part in projections_of(model) if part.role == "query"}
    assert list(ranked) == [0, 1]
    assert all(tensor.startswith(names[layer] + ".") for layer, tensor in ranked.items())
    assert sorted({row.layer for row in rows}) == sorted(names) == list(range(len(names)))
    assert len(names) > 2


class Layer(nn.Module):
    """Calls torch's kernel through ``attend``, which may have no parameters."""

    def __init__(self, attend):
        super().__init__()
        self.inner, self.attend = nn.Linear(8, 24), attend

    def forward(self, x):
        q, k, v = self.inner(x).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
        return self.attend(q, k, v).transpose(1, 2).flatten(2)


class Kernel(nn.Module):
    def forward(self, q, k, v):
        return scaled_dot_product_attention(q, k, v)


def attend_elsewhere(q, k, v):
    return scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("attend", [Kernel(), attend_elsewhere], ids=["shared module", "function"])
def test_the_layer_of_torchs_kernel_is_the_module_whose_parameters_make_its_queries(attend, tolerance):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), Layer(attend), nn.Linear(8, 8), Layer(attend))
    x = 3 * torch.randn(2, 5, 8)
    found = measured(model, x)
    assert found.names == {0: "1", 1: "3"}
    for layer, name in found.names.items():
        q, k, _ = model[int(name)].inner(model[: int(name)](x)).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
        expected = entropy_of([(q.double() @ k.double().mT / 2).softmax(-1)])
        assert (found.of_layers[layer][ENTROPY].value - expected).abs().max() <= tolerance("attention.entropy")


class Skipping(nn.Module):
    """Attends with its second layer alone if the input is long."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(Kernel()), Layer(Kernel()), Layer(Kernel())])

    def forward(self, x):
        for layer in self.layers[1:2] if x.shape[1] > 5 else reversed(self.layers):
            x = layer.forward(x)  # not by a call, so that no hook of the layer runs
        return x


def test_numbers_do_not_depend_on_which_layers_a_batch_reaches_or_in_which_order():
    model = Skipping()
    assert measured(model, torch.randn(2, 5, 8)).names == {layer: f"layers.{layer}" for layer in range(3)}
    assert measured(model, torch.randn(2, 6, 8)).names == {1: "layers.1"}


def test_a_module_that_attends_with_different_numbers_of_heads_is_refused():
    class Twice(nn.Linear):
        def forward(self, x):
            for num_heads in (2, 4):
                q, k, v = super().forward(x).unflatten(-1, (num_heads, -1)).transpose(1, 2).chunk(3, dim=-1)
                scaled_dot_product_attention(q, k, v)
            return x

    with pytest.raises(BadInput, match="attends with 2 and with 4 heads"):
        AttentionProbe(nn.Sequential(nn.Linear(8, 8), Twice(8, 24)), torch.randn(2, 5, 8)).rows()
