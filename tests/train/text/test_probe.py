"""Probe sequences of a scan, with the special tokens of the model's own tokenizer."""

import pytest
from scanned_series import write_scannable, write_tokenizer
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from joma.errors import BadInput
from joma.saved.series import open_series
from joma.train.text.probe import probe_sequences, tokenizer_of
from joma.train.text.reading import Text

TEXT = Text("lazy", "the lazy dog", "the quick brown fox " * 40, "the lazy dog jumps over it " * 40)


@pytest.fixture
def tokenizer(tmp_path):
    return PreTrainedTokenizerFast(tokenizer_file=str(write_tokenizer(tmp_path)))


def test_sequences_are_consecutive_in_the_held_out_part(tokenizer):
    probe = probe_sequences(TEXT, tokenizer, 3, 20)
    assert probe.shape == (3, 20)
    whole = tokenizer(TEXT.held_out)["input_ids"]
    assert probe.flatten().tolist() == whole[:60]


def test_every_sequence_has_the_special_tokens_of_an_input(tokenizer):
    tokenizer.add_special_tokens({"cls_token": "<c>", "sep_token": "<s>"})
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<c>", "<s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<c> $A <s>", special_tokens=ends)
    probe = probe_sequences(TEXT, tokenizer, 2, 10)
    assert probe[:, 0].tolist() == [ends[0][1]] * 2
    assert probe[:, -1].tolist() == [ends[1][1]] * 2
    assert probe[:, 1:-1].flatten().tolist() == tokenizer(TEXT.held_out, add_special_tokens=False)["input_ids"][:16]


def test_short_held_out_part_is_continued_with_the_training_part(tokenizer):
    held_out = len(tokenizer(TEXT.held_out)["input_ids"])
    probe = probe_sequences(TEXT, tokenizer, 1, held_out + 5)
    assert probe[0, held_out:].tolist() == tokenizer(TEXT.train)["input_ids"][:5]


def test_text_too_short_for_a_probe_is_refused_with_remedies(tokenizer):
    with pytest.raises(BadInput, match="the text lazy is") as refused:
        probe_sequences(TEXT, tokenizer, 100, 100)
    assert "`text`" in refused.value.remedy
    assert "`length`" in refused.value.remedy


def test_sequences_of_fewer_than_two_tokens_are_refused(tokenizer):
    with pytest.raises(BadInput, match="sequences of 1 tokens"):
        probe_sequences(TEXT, tokenizer, 1, 1)


@pytest.mark.parametrize("next_to_weights", [True, False])
def test_tokenizer_is_found_in_the_folder_of_the_weights_or_its_parent(tmp_path, next_to_weights):
    places = write_scannable(tmp_path)
    if next_to_weights:
        (tmp_path / "tokenizer.json").rename(places[60] / "tokenizer.json")
    assert len(tokenizer_of(open_series(tmp_path))) > 30


def test_tokenizer_of_the_previous_step_replaces_a_damaged_one(tmp_path):
    places = write_scannable(tmp_path)
    (tmp_path / "tokenizer.json").rename(places[40] / "tokenizer.json")
    (places[60] / "tokenizer.json").write_text('{"version": "1.')
    assert len(tokenizer_of(open_series(tmp_path))) > 30


def test_given_tokenizer_has_precedence_and_a_missing_one_is_an_error(tmp_path):
    write_scannable(tmp_path / "series")
    (tmp_path / "series" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    series = open_series(tmp_path / "series")
    with pytest.raises(BadInput, match="holds no tokenizer"):
        tokenizer_of(series)
    assert len(tokenizer_of(series, str(tmp_path / "tokenizer.json"))) > 30
