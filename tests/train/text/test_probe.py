"""The text a scan has models read: as the model's own tokenizer prepares it."""

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


def test_stretches_follow_one_another_through_the_held_out_part(tokenizer):
    probe = probe_sequences(TEXT, tokenizer, 3, 20)
    assert probe.shape == (3, 20)
    whole = tokenizer(TEXT.held_out)["input_ids"]
    assert probe.flatten().tolist() == whole[:60]


def test_what_the_tokenizer_puts_around_an_input_stands_around_each(tokenizer):
    tokenizer.add_special_tokens({"cls_token": "<c>", "sep_token": "<s>"})
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<c>", "<s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<c> $A <s>", special_tokens=ends)
    probe = probe_sequences(TEXT, tokenizer, 2, 10)
    assert probe[:, 0].tolist() == [ends[0][1]] * 2
    assert probe[:, -1].tolist() == [ends[1][1]] * 2
    assert probe[:, 1:-1].flatten().tolist() == tokenizer(TEXT.held_out, add_special_tokens=False)["input_ids"][:16]


def test_of_a_short_held_out_part_the_other_is_taken_as_well(tokenizer):
    held_out = len(tokenizer(TEXT.held_out)["input_ids"])
    probe = probe_sequences(TEXT, tokenizer, 1, held_out + 5)
    assert probe[0, held_out:].tolist() == tokenizer(TEXT.train)["input_ids"][:5]


def test_a_text_that_is_too_short_is_refused_with_ways_out(tokenizer):
    with pytest.raises(BadInput, match="the text lazy is") as refused:
        probe_sequences(TEXT, tokenizer, 100, 100)
    assert "--text" in refused.value.remedy
    assert "--length" in refused.value.remedy


def test_a_sequence_needs_two_tokens(tokenizer):
    with pytest.raises(BadInput, match="sequences of 1 tokens"):
        probe_sequences(TEXT, tokenizer, 1, 1)


@pytest.mark.parametrize("beside", [True, False])
def test_the_tokenizer_is_found_beside_the_weights_or_above_them(tmp_path, beside):
    places = write_scannable(tmp_path)
    if beside:
        (tmp_path / "tokenizer.json").rename(places[60] / "tokenizer.json")
    assert len(tokenizer_of(open_series(tmp_path))) > 30


def test_a_last_step_without_a_whole_tokenizer_has_that_of_the_step_before(tmp_path):
    places = write_scannable(tmp_path)
    (tmp_path / "tokenizer.json").rename(places[40] / "tokenizer.json")
    (places[60] / "tokenizer.json").write_text('{"version": "1.')
    assert len(tokenizer_of(open_series(tmp_path))) > 30


def test_a_given_tokenizer_goes_first_and_none_is_said(tmp_path):
    write_scannable(tmp_path / "series")
    (tmp_path / "series" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    series = open_series(tmp_path / "series")
    with pytest.raises(BadInput, match="holds no tokenizer"):
        tokenizer_of(series)
    assert len(tokenizer_of(series, str(tmp_path / "tokenizer.json"))) > 30
