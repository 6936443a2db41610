"""Learning tasks use the right batch at every step and refuse settings without effect."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_law, tiny_law_recipe, tiny_recipe, tiny_tokens

from joma.errors import BadInput
from joma.problem.tree import balanced_tree
from joma.train.decoder import Decoder
from joma.train.hierarchies import HierarchyStream, save_law
from joma.train.products import linearised_loss
from joma.train.tasks import load_data, task_of
from joma.train.text.vocabulary import Tokens, save_tokens, shuffled

CPU = torch.device("cpu")


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("step", [0, 3])
def test_label_loss_is_that_of_the_batches_of_the_stream(step, shuffle, tolerance):
    law, recipe = tiny_law(), tiny_law_recipe(seed=5, shuffle_tokens=shuffle)
    decoder = Decoder(recipe.decoder)
    samples = HierarchyStream(law, recipe.batch_size, seed=5, shuffled=shuffle).batch(step)
    logits = decoder(samples.tokens)[:, -1]
    expected = torch.nn.functional.cross_entropy(logits, samples.labels)
    loss = task_of(recipe, law, CPU).loss(decoder, step)
    assert loss.item() == pytest.approx(expected.item(), abs=tolerance("decoder.parity"))


def test_text_is_read_in_windows_cyclically(tolerance):
    recipe = tiny_recipe()
    tokens = tiny_tokens()
    tokens = replace(tokens, train=tokens.train[: 4 * 21], digest="short")  # two windows of ten in four streams
    decoder, task = Decoder(recipe.decoder).eval(), task_of(recipe, tokens, CPU)
    streams = tokens.train.view(4, 21)
    for step, start in ((0, 0), (1, 10), (2, 0), (5, 10)):
        logits = decoder(streams[:, start : start + 10]).flatten(0, 1)
        targets = streams[:, start + 1 : start + 11].flatten()
        expected = torch.nn.functional.cross_entropy(logits, targets).item()
        assert task.loss(decoder, step).item() == pytest.approx(expected, abs=tolerance("decoder.parity"))


def test_one_query_predicts_every_token_once_from_the_last_position(tolerance):
    recipe, tokens = tiny_recipe(one_query=True), tiny_tokens()
    tokens = replace(tokens, train=tokens.train[: 4 * 21], digest="short")
    decoder, task = Decoder(recipe.decoder).eval(), task_of(recipe, tokens, CPU)
    streams = tokens.train.view(4, 21)
    for step in (0, 1, 10, 11):  # windows of ten tokens end before tokens 10 to 20, then begin again
        start = step % 11
        logits = decoder(streams[:, start : start + 10])[:, -1]
        expected = torch.nn.functional.cross_entropy(logits, streams[:, start + 10]).item()
        assert task.loss(decoder, step).item() == pytest.approx(expected, abs=tolerance("decoder.parity"))


@pytest.mark.parametrize("one_query", [False, True])
def test_linearised_loss_is_the_tangent_at_the_frequencies_of_the_text(one_query, tolerance):
    tokens, recipe = tiny_tokens(), tiny_recipe(loss="linearised", one_query=one_query)
    decoder = Decoder(recipe.decoder).eval()
    log_frequencies = ((torch.bincount(tokens.train) + 1) / (len(tokens.train) + 20)).log()
    streams = tokens.train[: len(tokens.train) // 4 * 4].view(4, -1)
    logits, targets = decoder(streams[:, :10]), streams[:, 1:11]
    if one_query:
        logits, targets = logits[:, -1], targets[:, -1]
    expected = linearised_loss(logits, targets, log_frequencies).item()
    loss = task_of(recipe, tokens, CPU).loss(decoder, 0)
    assert loss.item() == pytest.approx(expected, abs=tolerance("decoder.parity"))
    loss.backward()  # the gradient of the output bias is the sum of those at the logits
    pull = log_frequencies.exp() - torch.bincount(targets.flatten(), minlength=20) / targets.numel()
    assert (decoder.output.bias.grad - pull).abs().max() <= tolerance("decoder.parity")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shuffle_tokens": True}, "shuffle_tokens=True, which is for laws"),
        ({"decoder": replace(tiny_recipe().decoder, num_outputs=20)}, "decoder.num_outputs=20, which is for laws"),
        ({"length": 4}, "sequences of 4 tokens"),
    ],
)
def test_recipe_for_a_law_is_refused_with_a_text(change, message):
    with pytest.raises(BadInput, match=message):
        task_of(tiny_recipe(**change), tiny_tokens(), CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 9}, r"has length=9; expected length=8"),
        ({"num_outputs": 7}, r"decoder.num_outputs=7; expected decoder.num_outputs=6"),
        ({"num_outputs": None}, r"decoder.num_outputs=None; expected"),
        ({"loss": "linearised"}, r"loss=linearised; expected loss=cross_entropy"),
        ({"one_query": True}, r"one_query=True; expected one_query=False"),
        ({"num_outputs": None, "output_bias": "unigram"}, r"decoder.num_outputs=None; expected"),
    ],
)
def test_recipe_for_another_law_is_refused(change, message):
    with pytest.raises(BadInput, match=message):
        task_of(tiny_law_recipe(**change), tiny_law(), CPU)
    with pytest.raises(BadInput, match="length=8; expected length=6"):
        task_of(tiny_law_recipe(), balanced_tree((2, 3), 0.7), CPU)


def test_load_data_reads_laws_from_json_and_tokens_from_other_files(tmp_path):
    save_law(tiny_law(), tmp_path / "law.json")
    tokens = shuffled(tiny_tokens(), 0)
    save_tokens(tokens, tmp_path / "text.safetensors")
    assert load_data(tmp_path / "law.json") == tiny_law()
    read = load_data(tmp_path / "text.safetensors")
    assert isinstance(read, Tokens)
    assert read.digest == tokens.digest
