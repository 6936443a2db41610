import math
from copy import deepcopy

import pytest
import torch
from small_models import CONFIGS, FEW_KEYS, small_batch, small_model
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from joma.errors import BadInput, InvalidArgument
from joma.measure.capture.calls import AttentionCall
from joma.measure.capture.kernels import observing
from joma.train.decoder import Decoder, DecoderConfig

UNNAMED = {
    "t5": {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8},
    "bart": {
        **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    },
    "albert": {"embedding_size": 16},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 2},
    "modernbert": {"local_attention": 6, "cls_token_id": 1, "sep_token_id": 2},
    "falcon": {},
}
"""Families unknown to joma: position biases, cross-attention, shared layers, experts, windows, own code."""


def entropies(attentions):
    return [torch.special.entr(weights.double()).sum(-1) for weights in attentions]


def worst(calls, references):
    """Return the largest difference in nats over all queries except padding."""
    differences = [
        ((call.statistics().entropy_nats - reference).abs() * call.queries().every).max()
        for call, reference in zip(calls, references, strict=True)
    ]
    return max(differences)


def seen_and_eager(model, eager, batch):
    """Return the observed calls of ``model``, and the entropies of the attention weights that it returns."""
    calls = []
    with torch.no_grad():
        before = model(**batch)[0]
        with observing(model, calls.append):
            during = model(**batch)[0]
        given = eager(**batch, output_attentions=True)
    assert torch.equal(before, during)
    if "attentions" in given:
        return calls, entropies(given.attentions)
    pairs = zip(given.decoder_attentions, given.cross_attentions, strict=True)
    return calls, entropies([*given.encoder_attentions, *(weights for pair in pairs for weights in pair)])


@pytest.mark.parametrize(
    ("kind", "padded"),
    [(kind, padded) for kind in CONFIGS for padded in (False, True) if not (padded and kind == "vit")],
)
def test_observed_entropies_of_every_family_agree_with_eager(kind, padded, tolerance):
    model, eager = small_model(kind), small_model(kind)
    eager.set_attn_implementation("eager")
    calls, references = seen_and_eager(model, eager, small_batch(kind, padded=padded))
    assert [call.layer for call in calls] == [0, 1]
    assert worst(calls, references) <= tolerance("attention.entropy")
    if padded:
        kept = calls[0].queries().every
        assert kept.expand(3, -1, 12)[:, 0].sum(-1).tolist() == [12, 8, 5]


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "mistral", "bert"])
def test_an_eager_model_is_observed_with_its_own_function(kind, tolerance):
    model = small_model(kind)
    model.set_attn_implementation("eager")
    calls, references = seen_and_eager(model, model, small_batch(kind, padded=True))
    assert worst(calls, references) <= tolerance("attention.entropy")
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("kind", UNNAMED)
def test_families_unknown_to_joma_are_observed(kind, tolerance):
    import transformers

    sizes = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
    sizes |= {"intermediate_size": 64, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    config = transformers.AutoConfig.for_model(
        kind, **(sizes if kind not in ("t5", "bart") else {"vocab_size": 99}), **UNNAMED[kind]
    )
    model = transformers.AutoModel.from_config(config).eval()
    eager = transformers.AutoModel.from_config(deepcopy(config), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    batch = small_batch(kind, padded=True)
    if kind in ("t5", "bart"):
        batch["decoder_input_ids"] = batch["input_ids"]
    calls, references = seen_and_eager(model, eager, batch)
    expected = [0, 0] if kind == "albert" else list(range(len(calls)))  # whose layers share one module
    assert [call.layer for call in calls] == expected
    assert worst(calls, references) <= tolerance("attention.entropy")


def test_sink_logits_count_as_one_more_key(tolerance):
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        "gpt_oss", **CONFIGS["llama"], head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=5
    )
    model = transformers.AutoModel.from_config(config).eval()
    calls = []
    with torch.no_grad(), observing(model, calls.append):
        weights = model(**small_batch("llama"), output_attentions=True).attentions
    assert all(call.sinks is not None for call in calls)
    with_sink = [torch.cat([part, 1 - part.sum(-1, keepdim=True)], dim=-1).clamp_min(0) for part in weights]
    assert worst(calls, entropies(with_sink)) <= tolerance("attention.entropy")


@pytest.mark.parametrize("own", ["eager", "sdpa"])
def test_keys_that_are_chosen_under_a_known_name_alone_are_the_ones_that_are_observed(own, tolerance):
    """DeepSeek V3.2 hides all keys but a few, if its configuration names a function that takes a mask."""
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("deepseek_v32", **FEW_KEYS)
    model = transformers.AutoModel.from_config(config, attn_implementation=own).eval()
    eager = transformers.AutoModel.from_config(deepcopy(config), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    calls, references = seen_and_eager(model, eager, small_batch("llama", padded=True))
    assert all((call.statistics().entropy_nats <= math.log(4) + 1e-6).all() for call in calls)
    assert worst(calls, references) <= tolerance("attention.entropy")


def test_the_name_of_the_attention_function_stays_while_a_model_is_observed():
    """Some models decide by that name what they compute."""
    from transformers import AttentionInterface

    model, look_up = small_model("llama"), AttentionInterface.get_interface
    with observing(model, print), observing(model, print):
        assert model.config._attn_implementation == "sdpa"
        assert AttentionInterface.get_interface is not look_up
    assert AttentionInterface.get_interface is look_up


def test_entropies_without_the_masks_would_be_wrong(tolerance):
    model, eager = small_model("mistral"), small_model("mistral")
    eager.set_attn_implementation("eager")
    calls, references = seen_and_eager(model, eager, small_batch("mistral", padded=True))
    assert worst(calls, references) <= tolerance("attention.entropy")
    bare = [type(call)(call.layer, call.name, call.q, call.k, call.scale, is_causal=True) for call in calls]
    assert worst(bare, references) > 1000 * tolerance("attention.entropy")


def test_a_function_whose_masks_are_hidden_is_refused_where_it_is_called():
    """A class that is defined interactively has no source, by which transformers knows that functions may be set."""
    from transformers import AttentionInterface

    AttentionInterface.register("hidden_masks", print)
    model = small_model("llama")
    model.config._attn_implementation_internal = "hidden_masks"
    type(model)._can_set_attn_implementation_cached_value = False
    try:
        with pytest.raises(BadInput, match="'hidden_masks', whose masks cannot"), observing(model, print):
            model(**small_batch("llama"))
    finally:
        type(model)._can_set_attn_implementation_cached_value = True
        del AttentionInterface._global_mapping["hidden_masks"]


def test_attention_that_does_more_than_its_arguments_say_is_refused():
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    from joma.measure.capture import transformers as capture_transformers

    def sharpened(module, query, key, value, mask, **settings):
        return sdpa_attention_forward(module, 2 * query, key, value, mask, **settings)

    AttentionInterface.register("sharpened", sharpened)
    AttentionMaskInterface.register("sharpened", sdpa_mask)
    model = small_model("llama")
    model.set_attn_implementation("sharpened")
    with pytest.raises(BadInput, match="'sharpened', whose masks cannot"), observing(model, print):
        pass
    assert model.config._attn_implementation == "sharpened"
    capture_transformers._OBSERVABLE += ("sharpened",)
    try:
        with (
            pytest.raises(BadInput, match="attention of LlamaAttention does not follow from its arguments"),
            observing(model, print),
        ):
            model(**small_batch("llama"))
    finally:
        capture_transformers._OBSERVABLE = capture_transformers._OBSERVABLE[:2]


def test_padding_is_recognised_only_in_self_attention():
    """In cross-attention, hidden keys do not show which queries are padding, even with as many keys as queries."""
    import transformers

    config = transformers.AutoConfig.for_model("t5", vocab_size=99, **UNNAMED["t5"], decoder_start_token_id=0)
    model, batch, calls = transformers.AutoModel.from_config(config).eval(), small_batch("t5", padded=True), []
    with torch.no_grad(), observing(model, calls.append):
        model(**batch, decoder_input_ids=batch["input_ids"])
    assert [call.is_cross for call in calls] == [False, False, False, True, False, True]
    counted = [call.queries().every.expand(3, 4, 12)[:, 0].sum(-1).tolist() for call in calls]
    assert counted == [[12, 8, 5]] * 2 + [[12, 12, 12]] * 4

    module, x, hidden, calls = nn.MultiheadAttention(8, 2), torch.randn(5, 1, 8), torch.zeros(1, 5).bool(), []
    hidden[0, 3:] = True
    with observing(module, calls.append):
        module(x, x, x, key_padding_mask=hidden)
        module(x, x + 1, x, key_padding_mask=hidden)
    assert [int(call.queries().every.sum()) for call in calls] == [3, 5]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_text_has_the_same_entropies_alone_and_padded(side, tolerance):
    model = small_model("llama")
    tokens, none = torch.randint(3, 99, (1, 8)), torch.zeros(1, 4).long()
    texts = [(tokens, torch.ones_like(tokens), torch.arange(8)[None])]
    parts = (none, tokens) if side == "left" else (tokens, none)
    positions = (none, torch.arange(8)[None]) if side == "left" else (torch.arange(8)[None], none)
    texts.append((torch.cat(parts, 1), torch.cat([(part != 0).long() for part in parts], 1), torch.cat(positions, 1)))
    means = []
    for ids, mask, position_ids in texts:
        calls = []
        with torch.no_grad(), observing(model, calls.append):
            model(input_ids=ids, attention_mask=mask, position_ids=position_ids)
        means.append(calls[-1].metrics(share_window=3))
    for name, alone in means[0].items():
        assert (means[1][name].value - alone.value).abs().max() <= tolerance("attention.entropy"), name


@pytest.mark.parametrize("hidden", [-torch.inf, torch.finfo(torch.float32).min, -1e9, -1e4])
def test_masks_with_large_negative_numbers_hide_keys(hidden, tolerance):
    seen = torch.ones(12, 12).bool().tril() & (torch.arange(12) >= torch.tensor([0, 3, 7])[:, None, None])
    model, calls = small_model("gpt2"), []
    with torch.no_grad(), observing(model, calls.append):
        for mask in (seen[:, None], torch.zeros(3, 1, 12, 12).masked_fill(~seen[:, None], hidden)):
            model(input_ids=small_batch("gpt2")["input_ids"], attention_mask=mask)
    by_rule, by_hand = calls[0].metrics(), calls[2].metrics()
    assert calls[2].queries().every[:, 0].sum(-1).tolist() == [12, 9, 5]
    for name, expected in by_rule.items():
        assert (by_hand[name].value - expected.value).abs().max() <= tolerance("attention.entropy"), name


class Masked(nn.Module):
    """Calls torch's kernel with its own mask."""

    def __init__(self, mask):
        super().__init__()
        self.inner, self.mask = nn.Linear(8, 24), mask

    def forward(self, x):
        q, k, v = self.inner(x).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
        return scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


@pytest.mark.parametrize("sees", [~torch.eye(6).bool(), torch.ones(6, 6).bool().tril(-1)], ids=["others", "earlier"])
def test_a_query_that_does_not_see_its_own_key_is_not_padding(sees, tolerance):
    model, x, calls = Masked(sees), 3 * torch.randn(2, 6, 8), []
    with torch.no_grad(), observing(model, calls.append):
        model(x)
    scores = (calls[0].q @ calls[0].k.mT / 2).double().masked_fill(~sees, -torch.inf)
    num_seen = int(sees.any(-1).sum())
    # Under the second mask no query sees the last key, so the last query counts as padding.
    counted = sees.any(-1) & sees.any(0)
    expected = entropies([scores.softmax(-1)])[0][:, :, counted].mean((0, 2))
    assert num_seen >= 5
    assert (calls[0].metrics()["attention_entropy_nats"].value - expected).abs().max() <= tolerance("attention.entropy")


def test_a_causal_bias_is_observed_and_other_mask_classes_are_refused(tolerance):
    from torch.nn.attention.bias import causal_lower_right

    class Unknown(torch.Tensor):
        pass

    model, x, calls = Masked(causal_lower_right(5, 5)), torch.randn(2, 5, 8), []
    with torch.no_grad(), observing(model, calls.append):
        model(x)
    scores = (calls[0].q @ calls[0].k.mT / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    assert worst(calls, entropies([scores.softmax(-1)])) <= tolerance("attention.entropy")
    model.mask = torch.zeros(5, 5).as_subclass(Unknown)
    with (
        pytest.raises(InvalidArgument, match="`attn_mask` is a Unknown"),
        observing(model, AttentionCall.metrics),
    ):
        model(x)


def test_the_model_is_restored_after_an_exception():
    model = small_model("gpt2")
    hooks = len(model._forward_pre_hooks)
    with pytest.raises(ZeroDivisionError), observing(model, lambda call: 1 / 0):
        model(**small_batch("gpt2"))
    assert model.config._attn_implementation == "sdpa"
    assert len(model._forward_pre_hooks) == hooks
    assert torch.backends.mha.get_fastpath_enabled()
    seen = []
    with observing(small_model("gpt2"), seen.append):
        model(**small_batch("gpt2"))  # another model
    assert not seen


def training_step(model, batch):
    model.train()
    torch.manual_seed(3)
    loss = model(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_bit_identical_when_observed(checkpointing):
    batch, results, calls = small_batch("gpt2", padded=True), [], []
    for seen in (False, True):
        model = small_model("gpt2", "AutoModelForCausalLM")
        if checkpointing:
            model.gradient_checkpointing_enable()
        if seen:
            with observing(model, calls.append):
                results.append(training_step(model, batch))
        else:
            results.append(training_step(model, batch))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert [call.layer for call in calls] == [0, 1]  # the layers that the backward pass repeats are not reported
    assert not any(call.q.requires_grad for call in calls)


def test_layers_are_numbered_from_0_in_every_pass():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0)
    model, calls = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), []
    with observing(model, calls.append):
        for _ in range(2):
            model(torch.randn(2, 3, 8))
    assert [call.layer for call in calls] == [0, 1, 0, 1]
    assert calls[1].name == "layers.1.self_attn"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_first": True},
        {"bias": False},
        {"kdim": 6, "vdim": 5},
        {"add_bias_kv": True},
        {"add_zero_attn": True},
        {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    ],
    ids=lambda settings: "+".join(settings) or "plain",
)
def test_observed_multihead_attention_agrees_with_its_weights(settings, training, tolerance):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, **settings).train(training)
    q, k, v = (
        torch.randn(5, 3, 8),
        torch.randn(5, 3, settings.get("kdim", 8)),
        torch.randn(5, 3, settings.get("vdim", 8)),
    )
    if settings.get("batch_first"):
        q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    masks = [{}, {"key_padding_mask": padding}, {"attn_mask": nn.Transformer.generate_square_subsequent_mask(5)}]
    masks += [
        {"attn_mask": torch.randn(6, 5, 5), "key_padding_mask": torch.zeros(3, 5).masked_fill(padding, -torch.inf)}
    ]
    for mask in masks:
        calls = []
        with torch.no_grad(), observing(module, calls.append):
            weights = module(q, k, v, **mask, average_attn_weights=False)[1]
        assert worst(calls, entropies([weights])) <= tolerance("attention.entropy")


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("settings", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=["plain", "added keys"])
def test_a_causal_hint_replaces_the_mask_only_where_torch_drops_it(need_weights, padded, settings, tolerance):
    torch.manual_seed(0)
    module, x, calls = nn.MultiheadAttention(8, 2, batch_first=True, **settings), torch.randn(3, 6, 8), []
    back = torch.arange(6)[:, None] - torch.arange(6)
    causal, window = back < 0, (back < 0) | (back >= 2)
    padding = torch.zeros(3, 6).bool()
    padding[1, 5:] = True
    given = {"key_padding_mask": padding if padded else None}
    with torch.no_grad(), observing(module, calls.append):
        output = module(x, x, x, attn_mask=window, is_causal=True, need_weights=need_weights, **given)[0]
    drops = not need_weights and not padded
    if drops and settings:  # torch's causal kernel hides the keys that the module adds too, which lie behind all others
        seen = ~torch.nn.functional.pad(causal, (0, 2), value=True)
        scores = (calls[0].q @ calls[0].k.mT / 2).masked_fill(~seen, -torch.inf)
        weights = scores.softmax(-1)
    else:
        expected, weights = module(x, x, x, attn_mask=causal if drops else window, average_attn_weights=False, **given)
        torch.testing.assert_close(output, expected, rtol=0, atol=tolerance("capture.outputs"))
    assert worst(calls, entropies([weights])) <= tolerance("attention.entropy")


class TowardsItself(nn.MultiheadAttention):
    """Attends from twice its input to its input."""

    def forward(self, x):
        self.weights = super().forward(2 * x, x, x, average_attn_weights=False)[1]
        return x


def test_observed_subclasses_of_multihead_attention_agree_with_their_weights(tolerance):
    module, calls = nn.Sequential(nn.Linear(8, 8), TowardsItself(8, 2, batch_first=True)), []
    with torch.no_grad(), observing(module, calls.append):
        module(torch.randn(3, 5, 8))
    assert [call.name for call in calls] == ["1"]
    assert worst(calls, entropies([module[1].weights])) <= tolerance("attention.entropy")


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layers_are_observed_without_fusion(norm_first, tolerance):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, padding, calls = torch.randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool), []
    padding[2, 2:] = True
    with torch.inference_mode():
        plain = model(x, src_key_padding_mask=padding)
        with observing(model, calls.append):
            seen = model(x, src_key_padding_mask=padding)
    assert len(calls) == 2
    kept = ~padding[..., None]
    torch.testing.assert_close(seen * kept, plain * kept, rtol=0, atol=tolerance("capture.outputs"))
    assert calls[0].queries().every.expand(3, -1, 5)[:, 0].sum(-1).tolist() == [5, 5, 2]


def test_the_own_decoder_reports_the_same_calls_as_its_observer():
    decoder = Decoder(DecoderConfig(20, width=8, num_heads=2, hidden=6, num_layers=2)).eval()
    tokens, calls, expected = torch.randint(20, (3, 7)), [], []
    with observing(decoder, calls.append):
        decoder(tokens, observe=lambda *call: expected.append(call))
    for call, (layer, q, k) in zip(calls, expected, strict=True):
        assert (call.layer, call.is_causal) == (layer, True)
        assert torch.equal(call.q, q)
        assert torch.equal(call.k, k)


class Own(nn.Module):
    """A model from outside that calls torch's kernel."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.inner(x).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)


def test_any_model_that_calls_torchs_kernel_is_observed(tolerance):
    model, x, calls = Own(), torch.randn(2, 5, 8), []
    with observing(model, calls.append):
        checkpoint(model, x, use_reentrant=False).sum().backward()
    assert [call.layer for call in calls] == [0]
    q, k, _ = model.inner(x).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
    scores = (0.3 * q @ k.mT).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    assert worst(calls, entropies([scores.softmax(-1)])) <= tolerance("attention.entropy")


def test_a_compiled_model_is_observed_without_recompilation():
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    model, x, calls = Own(), torch.randn(2, 5, 8), []
    compiled = torch.compile(model, backend=counter)
    compiled(x)
    before = counter.frame_count
    with observing(compiled, calls.append) as inner:
        inner(x)
        compiled(x)
    compiled(x)
    assert (len(calls), counter.frame_count) == (2, before)
    assert before >= 1


def test_an_object_that_is_not_a_module_is_refused():
    with pytest.raises(InvalidArgument, match="`model` is a dict"), observing({}, print):
        pass
