"""Means leave out padding: as the batch marks it, or as the numbers show, and otherwise with a warning."""

import warnings

import pytest
import torch
from small_models import FEW_KEYS, small_batch, small_model
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from joma.measure.capture.calls import AttentionCall, LayerMetrics
from joma.measure.capture.kernels import observing
from joma.measure.capture.padding import Marks

ENTROPY = "attention_entropy_nats"
LENGTHS = (12, 8, 5)
TOKENS = torch.arange(12) < torch.tensor(LENGTHS)[:, None]


def measured(model, *args, warns="", **kwargs):
    """Return the entropies of a model's layers, after checking that a warning comes if and only if one is expected."""
    found = LayerMetrics()
    with warnings.catch_warnings(record=True) as caught, torch.no_grad(), observing(model, found.add):
        warnings.simplefilter("always")
        model(*args, **kwargs)
    messages = [str(each.message) for each in caught if "joma" in str(each.message)]
    assert bool(messages) == bool(warns), messages
    assert all(warns in message for message in messages)
    return {found.names[layer]: metrics[ENTROPY].value for layer, metrics in found.of_layers.items()}


def mean_entropy(weights, tokens):
    """Return the mean over tokens of each head's entropy, of (B, H, L, S) weights."""
    return torch.special.entr(weights.double()).sum(-1).transpose(1, 2)[tokens].mean(0)


class Attends(nn.Module):
    """Passes what ``of`` makes of its input to nn.MultiheadAttention, as queries and keys."""

    def __init__(self, of, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.of, self.attend = of, nn.MultiheadAttention(32, 4, batch_first=True, **settings)
        nn.init.normal_(self.attend.in_proj_weight, std=0.3)

    def forward(self, x, hidden):
        q, k = self.of(x)
        self.weights = self.attend(q, k, k, key_padding_mask=hidden, average_attn_weights=False)[1]
        return self.attend(q, k, k, key_padding_mask=hidden, need_weights=False)[0]


NORM = nn.LayerNorm(32)


@pytest.mark.parametrize("hidden", [True, -torch.inf, -1e4, -1e3])
@pytest.mark.parametrize("settings", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=["plain", "more keys"])
@pytest.mark.parametrize(
    "of", [lambda x: (NORM(x), NORM(x)), lambda x: (x, x.clone())], ids=["computed twice", "copied"]
)
def test_queries_and_keys_with_equal_numbers_are_one_sequence(of, settings, hidden, tolerance):
    model, x = Attends(of, **settings), torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(1))
    mask = ~TOKENS if hidden is True else torch.zeros(3, 12).masked_fill(~TOKENS, hidden)
    found = measured(model, x, mask)["attend"]
    assert (found - mean_entropy(model.weights, TOKENS)).abs().max() <= tolerance("attention.entropy")


def test_other_numbers_at_the_same_address_are_another_sequence(tolerance):
    def parts(x):
        q, k = x[:, :6], x[:, ::2]
        assert q.data_ptr() == k.data_ptr()
        return q, k

    model, x, hidden = Attends(parts), torch.randn(3, 12, 32), torch.arange(6).expand(3, 6) > 3
    found = measured(model, x, hidden, warns="layer 0 (attend) are padding is a guess: all queries count")["attend"]
    everything = torch.ones(3, 6).bool()
    assert (found - mean_entropy(model.weights, everything)).abs().max() <= tolerance("attention.entropy")


def causal(tokens, *, itself):
    """Return which keys (B, 1, L, S) queries see: earlier tokens, and padding queries ``itself`` their own key."""
    sees = (tokens[:, None] & torch.ones(12, 12).bool().tril())[:, None]
    return sees | (torch.eye(12).bool() & ~tokens[:, None, :, None] & itself)


@pytest.mark.parametrize("by", ["False", -torch.inf, -1e4, -1e3])
@pytest.mark.parametrize("itself", [False, True], ids=["hidden", "sees itself"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_recognised_in_a_mask_for_queries_and_keys(side, itself, by, tolerance):
    tokens = TOKENS if side == "right" else TOKENS.flip(1)
    sees = causal(tokens, itself=itself)
    mask = sees if by == "False" else torch.zeros(sees.shape).masked_fill(~sees, by)
    model, batch = small_model("gpt2"), {"input_ids": small_batch("gpt2")["input_ids"]}
    warns = "queries whose keys no other query sees are left out" if itself else ""
    found = measured(model, **batch, attention_mask=mask, warns=warns)
    model.double().set_attn_implementation("eager")
    zeros = torch.zeros(sees.shape).double().masked_fill(~sees, torch.finfo(torch.float64).min)
    with torch.no_grad():
        weights = model(**batch, attention_mask=zeros, output_attentions=True).attentions
    for entropy, expected in zip(found.values(), weights, strict=True):
        assert (entropy - mean_entropy(expected, tokens)).abs().max() <= tolerance("attention.entropy")


class Own(nn.Module):
    """Attends by torch's kernel; padding sees itself."""

    def __init__(self, itself=True):
        super().__init__()
        torch.manual_seed(0)
        self.itself, self.inner = itself, nn.Linear(8, 24)

    def forward(self, x, attention_mask=None, pad=None):
        tokens = attention_mask.bool() if pad is None else ~pad
        sees = causal(tokens, itself=self.itself)
        q, k, v = self.inner(x).unflatten(-1, (2, 12)).transpose(1, 2).chunk(3, dim=-1)
        scores = (q.double() @ k.double().mT / 2).masked_fill(~sees, -torch.inf)
        self.weights = scores.softmax(-1)
        return scaled_dot_product_attention(q, k, v, attn_mask=sees)


@pytest.mark.parametrize("lengths", [(12, 8, 5), (12, 11, 1)])
def test_queries_that_the_batch_marks_as_padding_do_not_count(lengths, tolerance):
    """By its mask alone, a padded last token that sees all earlier ones looks like any other last token."""
    model, tokens = Own(), torch.arange(12) < torch.tensor(lengths)[:, None]
    x = 3 * torch.randn(3, 12, 8)
    for args, kwargs in (((x,), {"attention_mask": tokens.long()}), ((x, tokens.float()), {})):
        found = measured(model, *args, **kwargs)[""]
        assert (found - mean_entropy(model.weights, tokens)).abs().max() <= tolerance("attention.entropy")


def test_without_marks_of_the_batch_padding_is_a_guess(tolerance):
    x = 3 * torch.randn(3, 12, 8)
    for itself, guess in ((True, "no other query sees"), (False, "whose keys are hidden from all queries")):
        model = Own(itself)
        found = measured(model, x, pad=~TOKENS, warns=guess)[""]
        expected = mean_entropy(model.weights.nan_to_num(), TOKENS)
        assert (found - expected).abs().max() <= tolerance("attention.entropy")
        assert not found.isnan().any()


@pytest.mark.parametrize("itself", [False, True], ids=["hidden", "sees itself"])
@pytest.mark.parametrize("mark", ["true for padding", "added to scores"])
def test_marks_that_are_true_for_padding_do_not_leave_out_the_tokens(mark, itself, tolerance):
    class Inverted(Own):
        def forward(self, x, attention_mask):
            return super().forward(x, pad=attention_mask != 0)

    model, x = Inverted(itself), 3 * torch.randn(3, 12, 8)
    given = ~TOKENS if mark == "true for padding" else -1e9 * (~TOKENS).float()
    found = measured(model, x, given, warns="padding is a guess")[""]
    expected = mean_entropy(model.weights.nan_to_num(), TOKENS)
    assert (found - expected).abs().max() <= tolerance("attention.entropy")


def test_marks_of_the_keys_leave_out_no_queries_of_another_sequence(tolerance):
    class Reads(Attends):
        def forward(self, x, context, attention_mask):
            self.of = lambda x: (x, context)
            return super().forward(x, ~attention_mask)

    model = Reads(None)
    found = measured(model, torch.randn(3, 12, 32), torch.randn(3, 12, 32), TOKENS, warns="what the batch marks")
    expected = mean_entropy(model.weights, torch.ones(3, 12).bool())
    assert (found["attend"] - expected).abs().max() <= tolerance("attention.entropy")


@pytest.mark.parametrize("itself", [None, False, True], ids=["no padding", "hidden", "sees itself"])
def test_the_last_token_after_a_prefix_counts(itself):
    """Only itself sees its key, and queries of the prefix see later keys."""
    tokens = torch.ones(3, 12).bool() if itself is None else TOKENS.flip(1)
    prefix = (torch.arange(12) < 8) & tokens[:, None, None, :] & tokens[:, None, :, None]
    q = torch.randn(3, 4, 12, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if itself else "error")
        counted = AttentionCall(0, "", q, q, attn_mask=causal(tokens, itself=bool(itself)) | prefix).queries().every
    assert (counted == tokens[:, None]).all()


@pytest.mark.parametrize("sizes", [(12,), (5, 7), (4, 4, 4)])
@pytest.mark.parametrize("is_causal", [True, False])
def test_packed_documents_have_no_padding(sizes, is_causal):
    sees = torch.block_diag(*(torch.ones(size, size) for size in sizes)).bool()
    sees = sees.tril() if is_causal else sees
    q = torch.randn(2, 4, 12, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert AttentionCall(0, "", q, q, attn_mask=sees).queries().every.all()


def test_a_token_that_no_query_sees_counts_if_the_batch_marks_it():
    q, sees = torch.randn(2, 4, 12, 8), torch.ones(12, 12).bool().tril(-1)
    marks = Marks({"attention_mask": torch.ones(2, 12).bool()})
    assert AttentionCall(0, "", q, q, attn_mask=sees, marks=marks).queries().every[..., 1:].all()
    assert not AttentionCall(0, "", q, q, attn_mask=sees).queries().every[..., -1].any()


class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, ids):
        return self.inner(input_ids=ids)


def test_tokens_whose_keys_a_model_chooses_for_no_query_count_if_the_batch_has_no_mask(tolerance):
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("deepseek_v32", **FEW_KEYS)
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    batch, everything = {"input_ids": small_batch("gpt2")["input_ids"]}, torch.ones(3, 12).bool()
    with torch.no_grad():
        weights = model(**batch, use_cache=False, output_attentions=True).attentions
    assert all((layer.amax((1, 2)) == 0).any() for layer in weights)  # some keys are hidden from all queries
    expected = [mean_entropy(layer, everything) for layer in weights]
    silent = measured(model, **batch, use_cache=False, warns="all queries count, because the batch has no mask")
    marked = measured(model, **batch, use_cache=False, attention_mask=everything.long())
    wrapped = measured(Wrapped(model), batch["input_ids"], warns="all queries count, because the batch has no mask")
    for found in (silent, marked, wrapped):
        for entropy, reference in zip(found.values(), expected, strict=True):
            assert (entropy - reference).abs().max() <= tolerance("attention.entropy")


def test_keys_that_are_hidden_between_others_are_a_guess():
    x, sees = torch.randn(2, 2, 12, 8), torch.ones(12, 12).bool().tril()
    sees[:, 5] = False
    with pytest.warns(RuntimeWarning, match="is a guess: queries whose keys are hidden from all queries are left out"):
        assert AttentionCall(0, "", x, x, attn_mask=sees).queries().every.sum() == 11


def test_cross_attention_leaves_out_the_padding_of_the_decoders_mask(tolerance):
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 99, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8}
    model = transformers.AutoModel.from_config(
        transformers.AutoConfig.for_model("t5", **sizes, decoder_start_token_id=0)
    ).eval()
    ids = small_batch("gpt2")["input_ids"]
    batch = {"input_ids": ids, "attention_mask": TOKENS.long(), "decoder_input_ids": ids}
    batch["decoder_attention_mask"] = TOKENS.flip(0).long()
    found = measured(model, **batch)
    model.double().set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**batch, output_attentions=True)
    pairs = zip(output.decoder_attentions, output.cross_attentions, strict=True)
    expected = [mean_entropy(weights, TOKENS) for weights in output.encoder_attentions]
    expected += [mean_entropy(weights, TOKENS.flip(0)) for pair in pairs for weights in pair]
    for entropy, reference in zip(found.values(), expected, strict=True):
        assert (entropy - reference).abs().max() <= tolerance("attention.entropy")


def test_the_encoders_mask_is_not_that_of_a_decoder_made_from_labels():
    import transformers

    sizes = {"vocab_size": 99, "d_model": 32, "num_layers": 1, "num_heads": 4, "d_ff": 64, "d_kv": 8}
    config = transformers.AutoConfig.for_model("t5", **sizes, decoder_start_token_id=0, pad_token_id=0)
    model, calls = transformers.T5ForConditionalGeneration(config).eval(), []
    batch = {"input_ids": small_batch("gpt2")["input_ids"], "labels": small_batch("gpt2")["input_ids"]}
    with torch.no_grad(), observing(model, calls.append):
        model(**batch, attention_mask=TOKENS.long())
    counted = [call.queries().every.expand(3, 4, 12)[:, 0].sum(-1).tolist() for call in calls]
    assert counted == [list(LENGTHS), [12] * 3, [12] * 3]


def test_torchs_decoder_leaves_padding_out_of_cross_attention(tolerance):
    torch.manual_seed(0)
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 64, batch_first=True), 1).eval()
    own, memory = torch.randn(3, 12, 32), torch.randn(3, 12, 32)
    settings = {"tgt_key_padding_mask": ~TOKENS, "memory_key_padding_mask": ~TOKENS.flip(0)}
    found = measured(model, own, memory, **settings)["layers.0.multihead_attn"]
    layer = model.layers[0]
    states = layer.norm1(own + layer._sa_block(own, None, ~TOKENS))
    weights = layer.multihead_attn(
        states, memory, memory, key_padding_mask=~TOKENS.flip(0), average_attn_weights=False
    )[1]
    assert (found - mean_entropy(weights, TOKENS)).abs().max() <= tolerance("attention.entropy")
