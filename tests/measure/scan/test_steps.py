"""Measurements of a step, compared with the eager model and with full decompositions."""

import json
import os
import shutil
from functools import partial

import pytest
import torch
from faulty_series import as_bin, cut_off, plant_malicious, rename_tensor, set_number
from safetensors.torch import load_file, save_file
from scanned_series import plan_for, write_scannable
from small_models import small_model
from transformers import AutoModelForCausalLM

from joma.measure.capture.kernels import observing
from joma.measure.scan.steps import Plan, fingerprint_of, is_current, measure_step
from joma.metrics import choose_metrics
from joma.saved.series import open_series
from tolerances import TOLERANCES

ENTROPY = TOLERANCES["attention.entropy"].bound


@pytest.fixture(scope="module", params=["gpt_neox", "opt"])
def series(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    write_scannable(place, request.param)
    return place


@pytest.fixture
def own(series, tmp_path):
    return shutil.copytree(series, tmp_path / "own")


def configure(place, **settings):
    """Change a step's configuration."""
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | settings))


def rewrite(place, change):
    """Replace a step's tensors by those that ``change`` returns for each name and tensor."""
    tensors = load_file(place / "model.safetensors")
    changed = dict(pair for name, tensor in tensors.items() for pair in change(name, tensor))
    save_file(changed, place / "model.safetensors", {"format": "pt"})


def saved(folder, kind, **settings):
    """Save a small model of a kind as step 1."""
    small_model(kind, **settings).save_pretrained(folder / "step1")
    return folder


def values(result, metric, projection=None, *, of_groups=False):
    found = {}
    for row in result.rows:
        if (row.metric, row.projection) == (metric, projection) and (row.group is not None) == of_groups:
            found.setdefault((row.layer, row.head), []).append(row.value)
    return found


def test_attention_and_loss_agree_with_the_eager_model(series):
    plan = plan_for(series)
    result = measure_step(plan, 40)
    assert result.ok, result.reason
    model = AutoModelForCausalLM.from_pretrained(series / "step40", attn_implementation="eager").eval()
    calls = []
    with torch.no_grad(), observing(model, calls.append):
        output = model(plan.probe, output_attentions=True, labels=plan.probe)
    hidden = ~torch.ones(2 * plan.probe.shape[1:], dtype=torch.bool).tril()
    scores = [(call.scale * call.q @ call.k.mT).masked_fill(hidden, -torch.inf) for call in calls]
    of_groups = partial(values, result, of_groups=True)
    entropies, shares = of_groups("attention_entropy_nats"), of_groups("attention_first_token_share")
    normalized = of_groups("attention_entropy_normalized")
    without_first = of_groups("attention_entropy_without_first_nats")
    visible = torch.arange(2, plan.probe.shape[1] + 1).double().log()
    for layer, attention in enumerate(output.attentions):
        p = attention.double()
        entropy = torch.special.entr(p).sum(-1)
        others = p[:, :, 1:, 1:] / p[:, :, 1:, 1:].sum(-1, keepdim=True)  # the first query sees only one key
        entropy_of_others = torch.special.entr(others).sum(-1)
        for head in range(p.shape[1]):
            for group in range(len(plan.probe)):
                nats = entropies[layer, head][group]
                assert nats == pytest.approx(float(entropy[group, head].mean()), abs=ENTROPY)
                share = float(p[group, head, :, 0].mean())
                assert shares[layer, head][group] == pytest.approx(share, abs=TOLERANCES["attention.share"].bound)
                relative = float((entropy[group, head, 1:] / visible).mean())
                assert normalized[layer, head][group] == pytest.approx(relative, abs=2 * ENTROPY)
                of_others = float(entropy_of_others[group, head].mean())
                assert without_first[layer, head][group] == pytest.approx(of_others, abs=ENTROPY)
            largest = float(scores[layer][:, head].max())
            assert values(result, "attention_max_logit")[layer, head] == [pytest.approx(largest, rel=1e-5)]
            mean = float(entropy[:, head].mean())
            assert values(result, "attention_entropy_nats")[layer, head] == [pytest.approx(mean, abs=ENTROPY)]
    assert values(result, "val_loss_nats")[None, None] == [pytest.approx(float(output.loss), abs=ENTROPY)]


def test_spectra_agree_with_full_decompositions(series):
    result = measure_step(plan_for(series, "weights"), 20)
    model = AutoModelForCausalLM.from_pretrained(series / "step20")
    state = {
        name.split("layers.1.")[1]: value.double() for name, value in model.state_dict().items() if "layers.1." in name
    }
    if "attention.query_key_value.weight" in state:
        query = state["attention.query_key_value.weight"].view(4, 3, 8, 32)[:, 0]
        lower = state["mlp.dense_h_to_4h.weight"]
    else:
        query, lower = state["self_attn.q_proj.weight"].view(4, 8, 32), state["fc1.weight"]
    bound = TOLERANCES["spectrum.certified"].bound
    for projection, whole in (("query", query.flatten(0, 1)), ("mlp_lower", lower)):
        sigma = torch.linalg.svdvals(whole)
        share = sigma / sigma.sum()
        truth = {
            "stable_rank": float((sigma**2).sum() / sigma[0] ** 2),
            "spectral_norm": float(sigma[0]),
            "effective_rank": float(torch.special.entr(share).sum().exp()),
        }
        for measure, number in truth.items():
            assert values(result, measure, projection)[1, None] == [pytest.approx(number, rel=bound)]
    for head in range(4):
        sigma = torch.linalg.svdvals(query[head])
        number = float((sigma**2).sum() / sigma[0] ** 2)
        assert values(result, "stable_rank", "query")[1, head] == [pytest.approx(number, rel=bound)]


def test_measuring_weights_reads_only_the_projections(series):
    plan = Plan(open_series(series), choose_metrics("stable_rank", "scan"))
    result = measure_step(plan, 10)
    assert result.ok
    weights = sum(file.size for file in plan.series.checkpoint(10).files)
    assert result.bytes_stored == weights
    assert {row.metric for row in result.rows} == {"stable_rank"}
    assert not any("embed" in note for note in result.notes)


def test_half_precision_weights_are_converted(own):
    model = AutoModelForCausalLM.from_pretrained(own / "step40")
    model.bfloat16().save_pretrained(own / "step40")
    half = measure_step(plan_for(own), 40)
    assert half.ok, half.reason
    rounded = AutoModelForCausalLM.from_pretrained(own / "step40", dtype=torch.float32)
    rounded.save_pretrained(own / "step40")
    full = measure_step(plan_for(own), 40)
    assert half.rows == full.rows
    assert half.fingerprint != full.fingerprint


def test_a_nan_weight_is_named(own):
    name = next(name for name in open_series(own).checkpoint(20).tensors if name.endswith(("4h.weight", "fc1.weight")))
    set_number(own / "step20", name, float("nan"))
    for measures in ("attention", "weights"):
        result = measure_step(plan_for(own, measures), 20)
        assert not result.ok
        assert name in result.reason
        assert "NaN" in result.reason
        assert result.rows == ()


def test_a_renamed_tensor_fails_the_step(own):
    names = open_series(own).checkpoint(20).tensors
    old = next(name for name in names if name.endswith(("dense.weight", "out_proj.weight")))
    rename_tensor(own / "step20", old, old.replace("weight", "wait"))
    result = measure_step(plan_for(own, "attention"), 20)
    assert "is missing" in result.reason
    assert "dense" in result.reason or "out_proj" in result.reason


def test_a_truncated_file_fails_the_step(own):
    cut_off(own / "step20" / "model.safetensors")
    result = measure_step(plan_for(own), 20)
    assert not result.ok
    assert result.remedy


def test_a_replaced_step_is_not_current(own):
    series = open_series(own)
    result = measure_step(plan_for(own, "weights"), 20)
    assert is_current(series, result)
    shutil.copy(own / "step40" / "model.safetensors", own / "step20" / "model.safetensors")
    assert not is_current(open_series(own), result)
    assert fingerprint_of(open_series(own), 20) != result.fingerprint


def one_entry(place):
    """Change one entry in the middle of the largest tensor."""

    def change(name, tensor):
        if name == largest:
            tensor.view(-1)[tensor.numel() // 2] += 1
        return [(name, tensor)]

    tensors = load_file(place / "model.safetensors")
    largest = max(tensors, key=lambda name: tensors[name].numel())
    rewrite(place, change)


def one_bit(place):
    """Change the last bit of the file in place."""
    with (place / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def other_weights(place):
    shutil.copy2(place.with_name("step40") / "model.safetensors", place / "model.safetensors")


@pytest.mark.parametrize("replace", [one_entry, one_bit, other_weights])
@pytest.mark.parametrize("with_its_time", [False, True])
def test_any_change_of_the_weights_makes_a_result_outdated_whatever_time_the_file_is_given(own, replace, with_its_time):
    weights, before = own / "step20" / "model.safetensors", (own / "step20" / "model.safetensors").stat()
    result = measure_step(plan_for(own, "stable_rank"), 20)
    replace(own / "step20")
    if with_its_time:
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_size == before.st_size
    assert not is_current(open_series(own), result)


@pytest.mark.parametrize("shard", range(3))
def test_a_shard_that_is_fetched_again_makes_a_result_outdated(tmp_path, shard):
    small_model("gpt_neox").save_pretrained(tmp_path / "step1", max_shard_size="40KB")
    result = measure_step(Plan(open_series(tmp_path), choose_metrics("stable_rank", "scan")), 1)
    assert is_current(open_series(tmp_path), result)
    shards = sorted((tmp_path / "step1").glob("model-*.safetensors"))
    tensors = {name: tensor + 1 for name, tensor in load_file(shards[shard]).items()}
    save_file(tensors, shards[shard], {"format": "pt"})
    assert not is_current(open_series(tmp_path), result)


def test_checking_that_a_result_is_current_reads_no_weights(own):
    result = measure_step(plan_for(own, "stable_rank"), 20)
    series = open_series(own)
    series.checkpoint(20)
    before = series.bytes_read
    assert is_current(series, result)
    assert series.bytes_read == before


def test_zeros_are_left_out_with_a_note(own):
    series = open_series(own)
    name = next(name for name in series.checkpoint(20).tensors if name.endswith(("4h_to_h.weight", "fc2.weight")))
    tensors = load_file(own / "step20" / "model.safetensors")
    tensors[name].zero_()
    save_file(tensors, own / "step20" / "model.safetensors", {"format": "pt"})
    result = measure_step(plan_for(own, "weights"), 20)
    assert result.ok
    assert any("mlp_upper" in note and "zeros" in note for note in result.notes)


def test_results_do_not_depend_on_the_threads_of_the_caller(series):
    plan, before = plan_for(series), torch.get_num_threads()
    found = []
    for num in (1, 2):
        torch.set_num_threads(num)
        found.append(measure_step(plan, 40).rows)
        assert torch.get_num_threads() == num
    torch.set_num_threads(before)
    assert found[0] == found[1]


def test_a_step_saved_as_a_pickle_gives_the_same_numbers(own):
    before = measure_step(plan_for(own), 40)
    as_bin(own / "step40")
    after = measure_step(plan_for(own), 40)
    assert after.rows == before.rows


def test_a_malicious_pickle_is_a_failed_step_and_runs_nothing(own, tmp_path):
    (own / "step40" / "model.safetensors").unlink()
    plant_malicious(own / "step40" / "pytorch_model.bin", tmp_path / "trace")
    result = measure_step(plan_for(own), 40)
    assert not result.ok
    assert not (tmp_path / "trace").exists()


QUANTISED = {"int8": torch.int8, "uint8": torch.uint8, "float8": torch.float8_e4m3fn}


@pytest.mark.parametrize("measures", ["attention", "weights"])
@pytest.mark.parametrize("dtype", QUANTISED)
def test_quantised_weights_are_not_measured_without_their_scales(own, measures, dtype):
    def quantise(name, tensor):
        if ("dense" not in name and "fc" not in name) or tensor.dim() < 2:
            return [(name, tensor)]
        scale = tensor.abs().max() / 100
        return [(name, (tensor / scale).to(QUANTISED[dtype])), (f"{name}_scale_inv", scale)]

    rewrite(own / "step20", quantise)
    result = measure_step(plan_for(own, measures), 20)
    assert result.rows == ()
    assert f"is stored in {dtype}" in result.reason


@pytest.mark.parametrize("measures", ["attention", "weights"])
def test_a_configuration_with_quantisation_is_refused(own, measures):
    configure(own / "step20", quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantised (gptq)" in measure_step(plan_for(own, measures), 20).reason
    configure(own / "step20", quantization_config={})
    assert measure_step(plan_for(own, measures), 20).ok


@pytest.mark.parametrize("measures", ["attention", "attention,loss", "weights"])
def test_a_configuration_of_fewer_layers_is_refused(own, measures):
    configure(own / "step20", num_hidden_layers=1)
    result = measure_step(plan_for(own, *measures.split(",")), 20)
    assert result.rows == ()
    assert "layers" in result.reason


def test_a_missing_layer_fails_the_step(own):
    rewrite(own / "step20", lambda name, tensor: [] if "layers.1." in name else [(name, tensor)])
    result = measure_step(plan_for(own, "weights"), 20)
    assert result.rows == ()
    assert "weights of 1 layers, and config.json states 2" in result.reason


@pytest.mark.parametrize("measures", ["attention", "all"])
def test_a_model_without_observable_attention_fails_the_step(tmp_path, measures):
    from transformers import BloomConfig, BloomForCausalLM

    BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)).save_pretrained(tmp_path / "s1")
    (tmp_path / "s1").rename(tmp_path / "step1")
    names = ["attention", "loss"] if measures == "all" else [measures]
    result = measure_step(plan_for(tmp_path, *names), 1)
    assert result.rows == ()
    assert "no attention was observed" in result.reason


def test_a_model_that_changes_while_it_is_observed_fails_the_step(own, monkeypatch):
    """The model finds out whether its attention function is the one that it knows."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    forward = torch.nn.LayerNorm.forward

    def suspicious(self, x):
        knows = ALL_ATTENTION_FUNCTIONS.get_interface("sdpa", None) is sdpa_attention_forward
        return forward(self, x) * (1 if knows else 1.01)

    monkeypatch.setattr(torch.nn.LayerNorm, "forward", suspicious)
    result = measure_step(plan_for(own, "attention"), 20)
    assert result.rows == ()
    assert "computes something else while its attention is observed" in result.reason


def test_a_changed_configuration_is_measured_again(own):
    result = measure_step(plan_for(own, "weights"), 20)
    configure(own / "step20", rope_theta=50.0)
    assert not is_current(open_series(own), result)


def test_any_error_becomes_the_result_of_its_step(own):
    def broken(config, tensors, *, with_head):
        raise ZeroDivisionError("of nothing")

    plan = plan_for(own, "attention")
    result = measure_step(Plan(plan.series, plan.metrics, plan.probe, build=broken), 20)
    assert result.reason == "it cannot be computed (ZeroDivisionError: of nothing)"
    assert result.remedy

    def interrupted(config, tensors, *, with_head):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_step(Plan(plan.series, plan.metrics, plan.probe, build=interrupted), 20)


def test_tokens_unknown_to_the_model_fail_the_step(tmp_path):
    saved(tmp_path, "llama", vocab_size=20)
    result = measure_step(plan_for(tmp_path, "attention"), 1)
    assert "token 63" in result.reason
    assert "20 tokens" in result.reason


@pytest.mark.parametrize(("kind", "problem"), [("vit", "pixel_values"), ("t5", "an encoder and a decoder")])
def test_models_with_other_inputs_than_one_text_are_refused(tmp_path, kind, problem):
    if kind == "t5":
        from transformers import T5Config, T5Model

        T5Model(T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)).save_pretrained(
            tmp_path / "step1"
        )
    else:
        saved(tmp_path, kind)
    assert problem in measure_step(plan_for(tmp_path, "attention"), 1).reason


def test_weights_that_are_not_matrices_are_named(own):
    def flatten(name, tensor):
        return [(name, tensor.flatten() if name.endswith(("4h_to_h.weight", "fc2.weight")) else tensor)]

    rewrite(own / "step20", flatten)
    result = measure_step(plan_for(own, "weights"), 20)
    assert "of shape (4096,)" in result.reason


def test_a_recipe_without_a_decoder_fails_the_step(own):
    (own / "step20" / "config.json").write_text('{"recipe": "with eggs"}')
    assert "recipe" in measure_step(plan_for(own, "weights"), 20).reason


def test_a_configuration_that_transformers_refuses_is_named_with_its_field(own):
    configure(own / "step20", hidden_size="wide", num_attention_heads=None)
    for measures in ("attention", "weights"):
        reason = measure_step(plan_for(own, measures), 20).reason
        assert "config.json" in reason
        assert "hidden_size" in reason


@pytest.mark.parametrize("measures", ["attention", "weights"])
def test_a_missing_configuration_is_reported_with_its_step(own, measures):
    (own / "step20" / "config.json").unlink()
    reason = measure_step(plan_for(own, measures), 20).reason
    assert reason == f"step 20 of {own} (step20) has no config.json"


@pytest.mark.parametrize("kind", ["mamba", "rwkv"])
def test_a_network_that_is_not_a_transformer_is_reported(own, kind):
    (own / "step20" / "config.json").write_text(json.dumps({"model_type": kind}))
    assert f"a {kind!r} model is not a Transformer" in measure_step(plan_for(own, "weights"), 20).reason
