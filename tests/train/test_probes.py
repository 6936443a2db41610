import math
from dataclasses import replace

import pytest
import torch
from tiny import tiny_law, tiny_law_recipe, tiny_recipe, tiny_tokens

from joma.measure.watch.probing import AttentionProbe
from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.tree import Law, Samples
from joma.train.decoder import Decoder, seed_of
from joma.train.probes import LabelProbe, Probe, held_out_windows

RECIPE = tiny_recipe(length=11, num_probe_sequences=10)
CPU = torch.device("cpu")


def rows_of(decoder: Decoder) -> dict[tuple[int | None, int | None, str], float]:
    rows = Probe(RECIPE, tiny_tokens(), CPU).measure(decoder)
    named = {(row.layer, row.head, row.metric, *filter(None, [row.group])): row.value for row in rows}
    assert len(named) == len(rows)
    return named


def test_measurements_equal_those_of_a_full_softmax(tolerance):
    decoder = Decoder(replace(RECIPE.decoder, num_layers=2)).eval()
    found = rows_of(decoder)
    held_out = tiny_tokens().held_out
    starts = [round(i * (len(held_out) - 12) / 9 - 0.5 + 1e-9) for i in range(10)]
    inputs = torch.stack([held_out[start : start + 11] for start in starts])
    seen = {}
    with torch.no_grad():
        decoder(inputs, observe=lambda layer, q, k: seen.update({layer: (q.double(), k.double())}))
    q, k = seen[1]
    hidden = ~torch.ones(11, 11, dtype=torch.bool).tril()
    weights = (q @ k.mT / math.sqrt(8)).masked_fill(hidden, -math.inf).softmax(-1)
    entropy = -torch.xlogy(weights, weights).sum(-1)[:, 1]
    normalized = entropy[:, 1:] / torch.arange(2, 12).log()
    commonest = inputs == torch.bincount(tiny_tokens().train).argmax()
    expected = {
        "attention_entropy_nats": entropy.mean(),
        ("attention_entropy_nats", "positions_1_3"): entropy[:, 1:4].mean(),
        ("attention_entropy_nats", "positions_9_10"): entropy[:, 9:].mean(),
        ("attention_entropy_nats", "sequences_1"): entropy[[1, 5, 9]].mean(),
        "attention_entropy_normalized": normalized.mean(),
        ("attention_entropy_normalized", "positions_4_6"): normalized[:, 3:6].mean(),
        ("attention_entropy_normalized", "sequences_3"): normalized[[3, 7]].mean(),
        "attention_first_token_share": weights[:, 1, :, 0].mean(),
        "attention_max_logit": (q @ k.mT / math.sqrt(8)).masked_fill(hidden, -math.inf)[:, 1].max(),
        "attention_commonest_token_share": (weights[:, 1] * commonest[:, None]).sum(-1).mean(),
    }
    for metric, value in expected.items():
        name = metric if isinstance(metric, tuple) else (metric,)
        assert found[1, 1, *name] == pytest.approx(value.item(), abs=tolerance("attention.entropy")), metric


def test_one_query_is_measured_at_the_last_position(tolerance):
    decoder, tokens = Decoder(replace(RECIPE.decoder, num_layers=2)).eval(), tiny_tokens()
    rows = Probe(replace(RECIPE, one_query=True), tokens, CPU).measure(decoder)
    found = {(row.layer, row.metric, row.group): row.value for row in rows if row.head in (1, None)}
    windows = held_out_windows(tokens, 10, 12)
    seen = {}
    with torch.no_grad():
        logits = decoder(windows[:, :-1], lambda layer, q, k: seen.update({layer: (q.double(), k.double())}))
    loss = torch.nn.functional.cross_entropy(logits[:, -1], windows[:, -1]).item()
    assert found[None, "val_loss_nats", None] == pytest.approx(loss, abs=tolerance("decoder.parity"))
    for layer, (q, k) in seen.items():
        weights = (q[:, 1, -1:] @ k[:, 1].mT / math.sqrt(8)).softmax(-1)[:, 0]
        entropy = -torch.xlogy(weights, weights).sum(-1)
        near = tolerance("attention.entropy")
        assert found[layer, "attention_entropy_nats", None] == pytest.approx(entropy.mean().item(), abs=near)
        part = entropy[1::4].mean().item()
        assert found[layer, "attention_entropy_nats", "sequences_1"] == pytest.approx(part, abs=near)
    assert not any(str(group).startswith("positions") for *_, group in found)


def test_probe_of_training_agrees_with_probe_of_a_watched_model(tolerance):
    decoder = Decoder(replace(RECIPE.decoder, num_layers=2)).eval()
    held_out = tiny_tokens().held_out
    inputs = torch.stack([held_out[(len(held_out) - 12) * i // 9 :][:11] for i in range(10)])
    watched = {(row.layer, row.head, row.metric): row.value for row in AttentionProbe(decoder, inputs).rows()}
    trained = rows_of(decoder)
    shared = watched.keys() & trained.keys()
    metrics = {"attention_entropy_nats", "attention_entropy_normalized", "attention_first_token_share"}
    metrics.add("attention_max_logit")
    assert {key[2] for key in shared} == metrics
    for key in shared:
        assert watched[key] == pytest.approx(trained[key], abs=tolerance("attention.entropy")), key


def test_one_value_per_layer_and_head():
    found = rows_of(Decoder(replace(RECIPE.decoder, num_layers=2)))
    per_head = {key[:2] for key in found if key[2].startswith("attention_")}
    assert per_head == {(layer, head) for layer in (0, 1) for head in (0, 1)}
    assert [key[:2] for key in found if key[2] == "stable_rank"] == [(0, None), (1, None)]
    assert (None, None, "val_loss_nats") in found
    groups = [key[3] for key in found if key[:3] == (0, 0, "attention_entropy_normalized") and key[3:]]
    assert groups == [
        *("positions_1_3", "positions_4_6", "positions_7_8", "positions_9_10"),
        *("sequences_0", "sequences_1", "sequences_2", "sequences_3"),
    ]


def test_loss_of_a_uniform_prediction_is_the_logarithm_of_the_vocabulary_size(tolerance):
    decoder = Decoder(RECIPE.decoder)
    with torch.no_grad():
        decoder.output.weight.zero_()
    loss = rows_of(decoder)[None, None, "val_loss_nats"]
    assert loss == pytest.approx(math.log(20), abs=tolerance("decoder.parity"))


def test_measuring_does_not_change_the_network():
    decoder = Decoder(RECIPE.decoder).train()
    before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    rows_of(decoder)
    assert decoder.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, before[name]) for name, weight in decoder.state_dict().items())


# --- the labels of a law


def held_out(law: Law, num: int) -> Samples:
    """The samples of a probe."""
    return law.sample(num, torch.Generator().manual_seed(seed_of("held-out samples")))


def label_rows(law: Combinatorial, num: int = 20) -> dict[tuple[int | None, int | None, str], float]:
    recipe = tiny_law_recipe(num_heads=2, num_probe_sequences=num, num_outputs=law.num_labels)
    rows = LabelProbe(recipe, law, CPU).measure(Decoder(recipe.decoder, seed=1))
    named = {(row.layer, row.head, row.metric, *filter(None, [row.group])): row.value for row in rows}
    assert len(named) == len(rows)
    return named


def test_labels_are_measured_at_the_last_position(tolerance):
    law, recipe = tiny_law(), tiny_law_recipe(num_heads=2)
    found, decoder = label_rows(law), Decoder(recipe.decoder, seed=1).eval()
    samples, seen = held_out(law, 20), {}
    with torch.no_grad():
        logits = decoder(samples.tokens, observe=lambda layer, q, k: seen.update({layer: (q.double(), k.double())}))
    logits = logits[:, -1].double()
    loss = torch.nn.functional.cross_entropy(logits, samples.labels).item()
    assert found[None, None, "val_loss_nats"] == pytest.approx(loss, abs=tolerance("decoder.parity"))
    assert found[None, None, "val_accuracy"] == (logits.argmax(-1) == samples.labels).double().mean()
    for layer, (q, k) in seen.items():
        weights = (q[:, :, -1:] @ k.mT / math.sqrt(8)).softmax(-1)[:, 1, 0]
        entropy = -(weights * weights.log()).sum(-1).mean().item()
        padding = (weights * (samples.tokens == law.padding)).sum(-1).mean().item()
        near = tolerance("attention.entropy")
        assert found[layer, 1, "attention_entropy_nats"] == pytest.approx(entropy, abs=near)
        assert found[layer, 1, "attention_padding_share"] == pytest.approx(padding, abs=near)
    assert [key[:2] for key in found if key[2] == "stable_rank"] == [(0, None), (1, None)]


def test_samples_without_a_token_count_for_the_loss_but_not_for_attention():
    """Most samples of a law that rarely shows tokens are all padding, whose attention has no information."""
    seldom = random_hierarchy(6, (4, 6), 2, num_tokens=12, length=8, show_probability=0.3, seed=0)
    samples = held_out(seldom, 40)
    empty = samples.tokens[:, -1] == seldom.padding
    assert 0 < empty.sum() < 40
    found = label_rows(seldom, 40)
    share = found[0, 0, "attention_padding_share"]
    assert share < (samples.tokens[~empty] == seldom.padding).double().mean(1).max()  # all-padding ones would have 1
    never = random_hierarchy(6, (4, 6), 2, num_tokens=12, length=8, show_probability=0.01, seed=0)
    assert (held_out(never, 20).tokens == never.padding).all()
    assert {key[2] for key in label_rows(never)} == {"val_loss_nats", "val_accuracy", "stable_rank"}


def test_all_runs_are_measured_on_the_same_samples_and_trained_on_others():
    law, decoder = tiny_law(), Decoder(tiny_law_recipe().decoder)
    one, two = (LabelProbe(tiny_law_recipe(seed=seed), law, CPU).measure(decoder) for seed in (0, 1))
    assert one == two
    mixed = LabelProbe(tiny_law_recipe(shuffle_tokens=True), law, CPU).measure(decoder)
    assert mixed != one
