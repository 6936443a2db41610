"""Experts are measured with the same numbers live, where they are stacked, and in saved steps, where most are not."""

import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import joma
from joma.measure.models.experts import unread_experts
from joma.measure.models.families import projections
from joma.measure.scan.steps import Plan, measure_step
from joma.saved.series import open_series

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
MLA = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
KINDS = {
    "mixtral": {"num_local_experts": 3},
    "qwen2_moe": {"num_experts": 3, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 20},
    "qwen3_moe": {"num_experts": 3, "moe_intermediate_size": 12, "head_dim": 8},
    "olmoe": {"num_experts": 3},
    "gpt_oss": {"num_local_experts": 3, "head_dim": 8},
    "granitemoe": {"num_local_experts": 3},
    "llama4_text": {"num_local_experts": 3, "intermediate_size_mlp": 20, "head_dim": 8, "interleave_moe_layer_step": 2},
    "deepseek_v3": {
        **{"n_routed_experts": 4, "moe_intermediate_size": 12, "first_k_dense_replace": 1, "n_group": 1},
        **{"topk_group": 1, "num_experts_per_tok": 2, **MLA},
    },
}
ROLES = ("mlp_lower", "mlp_gate", "mlp_upper")


def model_of(kind):
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, "initializer_range": 0.3, **KINDS[kind]})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def live_rows(model):
    batch = {"input_ids": torch.arange(8)[None]}
    with joma.watch(model, batch, measures=["stable_rank"], projections=ROLES) as probe:
        return list(probe.probes[0])


@pytest.mark.parametrize("kind", KINDS)
def test_experts_in_memory_and_on_disk_have_the_same_ranks(kind, tmp_path):
    model = model_of(kind)
    model.save_pretrained(tmp_path / "step1")
    result = measure_step(Plan(open_series(tmp_path), ("stable_rank",)), 1)
    assert result.ok, result.reason
    assert not result.notes
    saved = {row[:4] + row[5:]: row.value for row in result.rows if row.projection in ROLES}
    live = {row[:4] + row[5:]: row.value for row in live_rows(model)}
    assert live.keys() == saved.keys()
    assert list(live.values()) == pytest.approx([saved[place] for place in live], rel=1e-12)
    groups = {group for layer, *_, group in live if layer == 1}
    assert {None, "expert_0", "expert_1", "expert_2"} <= groups


def test_the_projections_of_gpt_oss_are_those_that_its_experts_apply():
    model = model_of("gpt_oss")
    experts = model.model.layers[1].mlp.experts
    parts = {one.role: one for one in projections(model.config, dict(model.named_parameters())) if one.layer == 1}
    state = torch.randn(1, 16)
    with torch.no_grad():
        experts.gate_up_proj_bias.zero_()
        gate, lower, upper = (
            parts[role].of(dict(model.named_parameters())[parts[role].tensor])[2]
            for role in ("mlp_gate", "mlp_lower", "mlp_upper")
        )
        gated, up = (state @ gate.T).clamp(max=experts.limit), (state @ lower.T).clamp(-experts.limit, experts.limit)
        expected = ((up + 1) * gated * torch.sigmoid(gated * experts.alpha)) @ upper.T + experts.down_proj_bias[2]
        found = experts(state, torch.tensor([[2]]), torch.ones(1, 1))
    torch.testing.assert_close(found, expected)


def test_a_layer_has_the_mean_over_its_experts_and_charts_and_trackers_show_it():
    model = model_of("mixtral")
    seen = {}
    batch = {"input_ids": torch.arange(8)[None]}
    with joma.watch(model, batch, tracker=lambda values, step: seen.update(values)) as probe:
        frame = probe.frame().query("metric == 'stable_rank' and layer == 1")
    per_expert = frame[frame.group.notna()].value
    assert len(per_expert) == 3
    assert frame[frame.group.isna()].value.item() == pytest.approx(np.mean(per_expert))
    ranks = {name: value for name, value in seen.items() if "rank" in name}
    assert set(ranks) == {"joma/stable_rank/mlp_lower/layer_00", "joma/stable_rank/mlp_lower/layer_01"}
    assert ranks["joma/stable_rank/mlp_lower/layer_01"] == pytest.approx(np.mean(per_expert))


def test_the_dense_layer_of_a_model_with_experts_is_measured_as_any_mlp():
    groups = {0: set(), 1: set()}
    for row in live_rows(model_of("deepseek_v3")):
        groups[row.layer].add(row.group)
    assert groups == {0: {None}, 1: {None, "shared_expert", *(f"expert_{number}" for number in range(4))}}


class Odd(nn.Module):
    """A model of a known kind with experts whose names nobody knows."""

    def __init__(self):
        super().__init__()
        self.inner = model_of("mixtral").model
        self.inner.layers[0].mlp.experts.odd_kernel = nn.Parameter(torch.randn(3, 4, 5))
        self.config = self.inner.config

    def forward(self, input_ids):
        return self.inner(input_ids).last_hidden_state


def test_experts_with_unknown_names_are_named_and_not_silently_left_out(tmp_path):
    with pytest.warns(
        RuntimeWarning, match=r"1 tensors of experts are not measured \(such as .*odd_kernel\): their names"
    ):
        joma.watch(Odd(), {"input_ids": torch.arange(8)[None]})
    model = model_of("mixtral")
    model.config.save_pretrained(tmp_path / "step1")
    tensors = dict(model.state_dict()) | {"model.layers.0.mlp.experts.odd_kernel": torch.randn(3, 4, 5)}
    save_file(tensors, tmp_path / "step1" / "model.safetensors")
    (note,) = measure_step(Plan(open_series(tmp_path), ("stable_rank",)), 1).notes
    assert "1 tensors of experts: left out" in note


@pytest.mark.filterwarnings("ignore")
def test_an_expert_of_zeros_is_named_and_the_others_are_measured(tmp_path):
    model = model_of("mixtral")
    model.model.layers[1].mlp.experts.gate_up_proj.data[2] = 0
    with pytest.warns(
        RuntimeWarning, match=r"mlp_lower projection of layer 1 \(.*gate_up_proj, expert_2\): it is a matrix"
    ):
        live = {row.group for row in live_rows(model) if row.layer == 1 and row.projection == "mlp_lower"}
    model.save_pretrained(tmp_path / "step1")
    result = measure_step(Plan(open_series(tmp_path), ("stable_rank",)), 1)
    saved = {row.group for row in result.rows if row.layer == 1 and row.projection == "mlp_lower"}
    assert live == saved == {None, "expert_0", "expert_1"}
    assert "layer 1, mlp_lower, expert_2: left out" in " ".join(result.notes)


def test_experts_of_an_encoder_and_a_decoder_are_named_with_the_reason():
    import transformers

    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "num_experts": 2}
    config = transformers.SwitchTransformersConfig(**sizes, num_layers=2, num_sparse_encoder_layers=1)
    model = transformers.SwitchTransformersModel(config)
    ids = torch.arange(8)[None]
    with pytest.warns(RuntimeWarning, match=r"tensors of experts are not measured .*: there are several stacks"):
        joma.watch(model, {"input_ids": ids, "decoder_input_ids": ids})


def test_experts_of_attention_are_no_mlp():
    config = {"model_type": "odd", "num_attention_heads": 2, "hidden_size": 16}
    names = ("self_attention.experts.input_linear.weight", "mlp.input_linear.weight", "mlp.experts.up_proj")
    names = [f"model.layers.0.{name}" for name in names]
    found = projections(config, names)
    assert {(one.role, one.tensor) for one in found} == {
        ("mlp_gate", names[1]),
        ("mlp_lower", names[1]),
        ("mlp_lower", names[2]),
    }
    assert unread_experts(names, found) == names[:1]


def test_biases_and_routers_are_no_experts():
    model = model_of("gpt_oss")
    names = dict(model.named_parameters())
    assert unread_experts(names, projections(model.config, names)) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        joma.watch(model, {"input_ids": torch.arange(8)[None]})
