"""Kernels are checked by their outputs: right ones pass with room to spare, and each planted fault is found."""

import itertools

import pytest
import torch
from small_models import CONFIGS, small_batch, small_model
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

import joma
from joma.errors import BadInput


def check(model, batch):
    return joma.watch(model, batch).check()


def used(checks):
    """Return the largest share of what is allowed."""
    return max(one.error / one.allowed for one in checks.layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "own"), [*itertools.product(["gpt2", "mistral", "vit"], ["sdpa", "eager"]), ("gemma2", "eager")]
)
def test_right_kernels_pass_with_room_to_spare(kind, dtype, own):
    model = small_model(kind, attn_implementation=own).to(dtype)
    batch = small_batch(kind, padded=kind != "vit")
    batch = {name: part.to(dtype) if part.is_floating_point() else part for name, part in batch.items()}
    checks = check(model, batch)
    assert checks.is_right
    assert used(checks) < 1 / 6
    assert [one.layer for one in checks.layers] == [0, 1]
    assert {one.num_queries for one in checks.layers} == {2 * 4 * 17 if kind == "vit" else 4 * (12 + 8 + 5)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [48, 512])
def test_right_kernels_pass_where_scores_are_as_small_as_before_training(length, dtype):
    model = small_model("gpt2", initializer_range=0.02, n_positions=512, n_layer=4).to(dtype)
    checks = check(model, {"input_ids": torch.randint(99, (1, length), generator=torch.Generator().manual_seed(0))})
    assert used(checks) < 1 / 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_kernels_of_every_family_pass(kind):
    checks = check(small_model(kind), small_batch(kind, padded=kind != "vit"))
    assert used(checks) < 1 / 6


def heads_swapped(q, k, v, **settings):
    return scaled_dot_product_attention(q, k, v, **settings).roll(1, 1)


def one_percent_off(q, k, v, *, scale=None, **settings):
    return scaled_dot_product_attention(q, k, v, scale=1.01 * (scale or q.shape[-1] ** -0.5), **settings)


def without_the_last_key(q, k, v, *, attn_mask=None, is_causal=False, **settings):
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    mask = mask.tril() if is_causal else mask if attn_mask is None else attn_mask.clone().expand(len(q), 1, *mask.shape)
    mask[..., -1, -1] = False
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, **settings)


def not_a_number(q, k, v, **settings):
    return scaled_dot_product_attention(q, k, v, **settings) * torch.nan


FAULTS = [heads_swapped, one_percent_off, without_the_last_key, not_a_number]


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_an_own_attention_function_is_checked_layer_by_layer(fault):
    import transformers

    def mine(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None, **_):
        kernel = fault if fault is not None and module.layer_idx == 1 else scaled_dot_product_attention
        return kernel(query, key, value, scale=scaling, is_causal=True).transpose(1, 2).contiguous(), None

    transformers.AttentionInterface.register("mine", mine)
    checks = check(small_model("gpt2", attn_implementation="mine"), small_batch("gpt2"))
    assert [one.is_right for one in checks.layers] == [True, fault is None]
    assert ("WRONG" in str(checks)) == (fault is not None)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_kernel_that_hides_its_masks_is_checked_with_those_of_sdpa():
    checks = check(small_model("mistral", attn_implementation="flex_attention"), small_batch("mistral", padded=True))
    assert used(checks) < 1 / 6
    assert [one.num_queries for one in checks.layers] == [100, 100]


class Faulty(TorchFunctionMode):
    """Puts a faulty kernel in the place of torch's."""

    def __init__(self, fault):
        super().__init__()
        self._fault = fault

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (self._fault if func is scaled_dot_product_attention else func)(*args, **(kwargs or {}))


class Attending(torch.nn.Linear):
    """Attends with torch's kernel in two heads."""

    def forward(self, x):
        heads = [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in super().forward(x).chunk(3, -1)]
        return scaled_dot_product_attention(*heads, is_causal=True)


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_torchs_kernel_is_checked(fault):
    torch.manual_seed(0)
    with Faulty(fault or scaled_dot_product_attention):
        assert check(Attending(8, 24), torch.randn(2, 9, 8)).is_right == (fault is None)


@pytest.mark.parametrize("settings", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 6, "vdim": 5}])
def test_torchs_module_is_checked_through_its_projection(settings):
    torch.manual_seed(0)
    model = torch.nn.MultiheadAttention(16, 2, batch_first=True, **settings)
    sizes = (16, settings.get("kdim", 16), settings.get("vdim", 16))
    batch = tuple(torch.randn(2, 9, size) for size in sizes)
    checks = check(model, batch)
    assert checks.is_right
    assert used(checks) < 1 / 6
    assert "layer 0 (the model): right, error" in str(checks)


def test_a_model_without_attention_is_refused():
    with pytest.raises(BadInput, match="no attention was observed in Linear"):
        check(torch.nn.Linear(3, 3), torch.randn(2, 3))


def test_a_check_changes_nothing():
    model, batch = small_model("gpt2"), small_batch("gpt2")
    model.train()
    before = [part.clone() for part in model.parameters()]
    state = torch.get_rng_state()
    check(model, batch)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
