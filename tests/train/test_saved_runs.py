"""Scans of joma's own runs give the values that were measured during training."""

import json
import pickle
import shutil
from dataclasses import replace
from itertools import product

import pytest
import torch
from tiny import tiny_law, tiny_law_recipe, tiny_recipe

from joma.errors import BadInput
from joma.measure.scan.steps import Plan, measure_step
from joma.metrics import choose_metrics
from joma.saved.series import open_series
from joma.train.run import load_run
from joma.train.saved_runs import run_probe, saved_decoder
from joma.train.text.reading import Text
from joma.train.text.vocabulary import save_tokens, shuffled, tokenize
from joma.train.training import train

SAME_AS_WHILE_TRAINING = {
    "attention_entropy_nats": "attention_entropy_nats",
    "attention_entropy_normalized": "attention_entropy_normalized",
    "attention_first_token_share": "attention_first_token_share",
    "attention_max_logit": "attention_max_logit",
    "stable_rank": "stable_rank",
}


def words(num: int, seed: int) -> str:
    ids = torch.randint(40, (num,), generator=torch.Generator().manual_seed(seed))
    return " ".join(f"word{id}" for id in ids.tolist())


@pytest.fixture(scope="module")
def tokens():
    return tokenize(Text("tiny", "a tiny text", words(2000, 0), words(1000, 1)))


@pytest.fixture(scope="module")
def of_text(tokens, tmp_path_factory):
    """The folder of a run in the layout of ``joma reproduce``, with the tokens in a folder next to that of the runs."""
    folder = tmp_path_factory.mktemp("reproduced")
    save_tokens(tokens, folder / "text" / "text.safetensors")
    save_tokens(shuffled(tokens, 0), folder / "text" / "another.safetensors")
    recipe = tiny_recipe(num_steps=40, snapshot_every=20, probe_every=20, early_until=0)
    decoder = replace(recipe.decoder, vocabulary_size=len(tokens.vocabulary), num_layers=2, output_bias="unigram")
    train(replace(recipe, decoder=decoder), tokens, folder / "runs" / "one")
    return folder / "runs" / "one"


@pytest.fixture(scope="module")
def of_law(tmp_path_factory):
    folder = tmp_path_factory.mktemp("law")
    train(tiny_law_recipe(num_steps=20, snapshot_every=10), tiny_law(), folder)
    return folder


@pytest.fixture
def own(of_text, tmp_path):
    return shutil.copytree(of_text.parents[1], tmp_path / "own") / "runs" / "one"


def config_of(folder):
    return open_series(folder).checkpoint(0).config


def plan_of(folder, measures="attention,stable_rank", **options) -> Plan:
    probe = run_probe(config_of(folder), folder, **options)[0]
    return Plan(open_series(folder), choose_metrics(measures, "scan"), probe, build=saved_decoder)


def while_training(folder, step):
    rows = [found for found in load_run(folder).measurements() if found.step == step]
    return {(found.layer, found.head, found.metric): found.value for found in rows if found.group is None}


def scanned(plan, step):
    """The corresponding values of a scan."""
    result = measure_step(plan, step)
    assert result.ok, result.reason
    rows = [row for row in result.rows if row.projection in (None, "mlp_lower") and row.group is None]
    return {(row.layer, row.head, row.metric): row.value for row in rows if row.projection is None or row.head is None}


@pytest.mark.parametrize("step", [0, 20, 40])
def test_scan_of_a_run_on_text_equals_its_measurements(of_text, step, tolerance):
    plan = plan_of(of_text)
    assert plan.probe is not None
    assert plan.probe.shape == (8, 10)
    found, before = scanned(plan, step), while_training(of_text, step)
    for layer, head, metric in before:
        if measure := SAME_AS_WHILE_TRAINING.get(metric):
            near = pytest.approx(before[layer, head, metric], abs=tolerance("attention.entropy"))
            assert found[layer, head, measure] == near, (layer, head, metric)
    assert {key[:2] for key in found if key[2] == "attention_first_token_share"} == set(product((0, 1), repeat=2))


def test_scan_of_a_run_on_a_law_has_a_single_query_in_the_last_layer(of_law, tolerance):
    plan = plan_of(of_law, "attention_entropy_nats")
    found, before = scanned(plan, 20), while_training(of_law, 20)
    last = max(key[0] for key in found)
    entropy = before[last, 0, "attention_entropy_nats"]
    assert found[last, 0, "attention_entropy_nats"] == pytest.approx(entropy, abs=tolerance("attention.entropy"))


def test_run_probe_returns_the_requested_sequences(of_text):
    config = config_of(of_text)
    probe, description = run_probe(config, of_text, num_sequences=3, length=25)
    assert probe.shape == (3, 25)
    assert description.startswith("3 held-out sequences of 25 tokens of a tiny text")
    assert torch.equal(run_probe(config, of_text / "snapshots", num_sequences=3, length=25)[0], probe)
    given = run_probe(config, of_text, text=str(of_text.parents[1] / "text" / "text.safetensors"), num_sequences=1)
    assert given[0].shape == (1, 10)


def test_loss_of_the_next_token_is_measured_but_not_of_labels(of_text, of_law, tolerance):
    plan = plan_of(of_text, "val_loss_nats")
    with torch.no_grad():
        logits = load_run(of_text).decoder(40)(plan.probe)[:, :-1].double()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), plan.probe[:, 1:].flatten()).item()
    assert scanned(plan, 40)[None, None, "val_loss_nats"] == pytest.approx(loss, abs=tolerance("decoder.parity"))
    result = measure_step(plan_of(of_law, "val_loss_nats"), 20)
    assert "not the next token" in result.reason


def test_plan_survives_pickling(of_text):
    plan = plan_of(of_text, num_sequences=2)
    assert measure_step(pickle.loads(pickle.dumps(plan)), 20).rows == measure_step(plan, 20).rows


def test_tokens_of_another_run_are_refused(own, tokens):
    config, texts = config_of(own), own.parents[1] / "text"
    with pytest.raises(BadInput, match="holds other tokens"):
        run_probe(config, own, text=str(texts / "another.safetensors"))
    with pytest.raises(BadInput, match="only 1,0"):
        run_probe(config, own, num_sequences=500)
    (texts / "text.safetensors").unlink()
    with pytest.raises(BadInput, match=r"are not found near it.*`text`"):
        run_probe(config, own)
    save_tokens(tokens, own / "tokens.safetensors")
    assert len(run_probe(config, own)[0]) == 8


@pytest.mark.parametrize(("name", "value"), [("text", "wikitext2"), ("length", 9)])
def test_options_without_effect_on_a_law_are_refused(of_law, name, value):
    with pytest.raises(BadInput, match=f"`{name}` has no effect"):
        run_probe(config_of(of_law), of_law, **{name: value})


def test_weights_that_do_not_fit_or_are_nan_are_refused(own):
    config = json.loads((own / "config.json").read_text())
    tensors = open_series(own).read(20)
    with pytest.raises(BadInput, match="do not fit the recipe"):
        saved_decoder(config, {name: value for name, value in tensors.items() if "norm" not in name}, with_head=False)
    tensors["blocks.1.value.weight"][0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"blocks\.1\.value\.weight"):
        saved_decoder(config, tensors, with_head=False)


def test_a_run_with_one_query_is_rebuilt_with_one_and_has_no_loss_of_every_token(tokens, tmp_path):
    decoder = replace(tiny_recipe().decoder, vocabulary_size=len(tokens.vocabulary))
    run = train(tiny_recipe(num_steps=2, one_query=True, decoder=decoder), tokens, tmp_path / "one")
    config = json.loads((run.folder / "config.json").read_text())
    whole, sequences = run.decoder(), tokens.held_out[:20].view(2, 10)
    rebuilt = saved_decoder(config, whole.state_dict(), with_head=False)
    assert torch.equal(rebuilt(sequences), whole(sequences, last_only=True))
    with pytest.raises(BadInput, match="predicts from the last position only"):
        saved_decoder(config, whole.state_dict(), with_head=True)
