"""Tokenisation gives the published counts in a defined order, and files of tokens are verified."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from joma.errors import BadInput
from joma.train.text import vocabulary
from joma.train.text.reading import Text, read_text
from joma.train.text.vocabulary import (
    END,
    UNKNOWN,
    Tokens,
    ids_of,
    load_tokens,
    require_tokens,
    save_tokens,
    shuffled,
    tokenize,
    uniform,
)


def plain(train: str, held_out: str = "held out", **kwargs: bool) -> Text:
    return Text("sample", "a sample", train, held_out, **kwargs)


def words(tokens: Tokens) -> list[str]:
    return [tokens.vocabulary[id] for id in tokens.train.tolist()]


@pytest.fixture(scope="module")
def wikitext(wikitext_folder: Path) -> Text:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOMA_DATA", str(wikitext_folder))
        return read_text("wikitext2")


# --- words


def test_wikitext_2_has_the_published_counts(wikitext):
    tokens = tokenize(wikitext, 40_000)
    assert len(tokens.train) == 2_088_628
    assert len(tokens.held_out) == 217_646
    assert len(tokens.vocabulary) == 33_278
    assert "all its 33,278 words (40,000 were asked for)" in tokens.description
    assert "2,088,628 + 217,646 tokens" in tokens.description
    assert (tokens.held_out < 33_278).all()
    # 54,625 words of the release's training part are its own <unk>: 2.6 %
    assert tokens.share_unknown == wikitext.train.split().count("<unk>") / 2_088_628


def test_small_vocabulary_keeps_the_most_frequent_words(wikitext):
    tokens = tokenize(wikitext, 500)
    counts = Counter(wikitext.train.split())
    kept = set(tokens.vocabulary) - {UNKNOWN, END}
    rarest = min(counts[word] for word in kept)
    assert len(tokens.vocabulary) == 500
    assert all(counts[word] <= rarest for word in counts.keys() - kept - {UNKNOWN})
    assert tokens.share_unknown == float((tokens.train == 0).double().mean()) > 0.2


def test_words_of_a_pretokenized_text_are_not_changed():
    text = plain(" = The <unk> = \n \n <script> @-@ don't\n", pretokenized=True)
    expected = ["=", "The", UNKNOWN, "=", END, END, "<script>", "@-@", "don't", END]
    assert words(tokenize(text)) == expected


def test_plain_text_is_split_into_words_numbers_and_punctuation():
    text = plain("Don't panic: it's 3.14,\nnot 22/7... 'Über-Wörter' __init__!\n\n\n--- A naïve coöperation?\n")
    expected = (
        "don't panic : it's 3.14 , not 22 / 7 ... ' über - wörter ' __init__ ! <eos> --- a naïve coöperation ? <eos>"
    )
    assert words(tokenize(text)) == expected.split()


@pytest.mark.parametrize(
    "word",
    [
        "नमस्ते",  # vowel signs and a virama
        "தமிழ்",
        "ภาษาไทย",
        "שָׁלוֹם",
        "العَرَبِيَّة",
        "cafe\u0301",  # an accent on its own
        "n\u0303a\u0302'e\u0301",
        "می\u200cخواهم",  # a non-joiner inside the word
        "ක්\u200dෂ",
        "i\u0307stanbul",  # what the lower case of the Turkish capital is
        "x̂ỹ",
        "❤️❤️",  # a variation selector after each symbol
    ],
)
def test_combining_marks_belong_to_the_letter_before_them(word):
    assert words(tokenize(plain(f"{word}, {word}."))) == [word, ",", word, ".", END]


def test_a_mark_without_a_letter_is_a_token_of_its_own():
    assert words(tokenize(plain("\u0301 a \u200d b"))) == ["\u0301", "a", "\u200d", "b", END]


@pytest.mark.parametrize(
    "clause", ["春眠不觉晓处处闻啼鸟", "むかしむかしあるところに", "กาลครั้งหนึ่งนานมาแล้ว", "ကြာကြာကမာကာ"]
)
def test_scripts_without_spaces_are_reported_and_need_a_tokenizer(clause):
    with pytest.warns(UserWarning, match="of the words of sample are of scripts without spaces .* give a tokenizer"):
        assert words(tokenize(plain(f"{clause}, {clause}."))) == [clause, ",", clause, ".", END]


def test_a_few_words_of_another_script_are_no_reason_for_a_warning(recwarn):
    tokenize(plain("the capital of Japan is called 東京 there, and nobody minds it."))
    assert not recwarn.list


def test_words_are_sorted_by_frequency_then_alphabetically():
    tokens = tokenize(plain("b a c c\n\nd", "a e"), vocabulary_size=5)
    # c and <eos> stand twice; of the four that stand once the first two by spelling are left
    assert tokens.vocabulary == (UNKNOWN, END, "c", "a", "b")
    assert tokens.train.tolist() == [4, 3, 2, 2, 1, 0, 1]
    assert tokens.held_out.tolist() == [3, 0, 1]
    assert tokens.share_unknown == 1 / 7
    assert "the 5 commonest of its 6 words" in tokens.description


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1), st.integers(2, 50), st.booleans())
def test_any_text_becomes_ids_within_its_vocabulary(train, size, pretokenized):
    text = plain(train, pretokenized=pretokenized)
    if not train.strip() and not pretokenized:  # (where lines count, a blank one still has its end)
        with pytest.raises(BadInput, match="has no word"):
            tokenize(text, size)
        return
    tokens = tokenize(text, size)
    assert len(tokens.vocabulary) <= size
    assert len(set(tokens.vocabulary)) == len(tokens.vocabulary)
    assert int(tokens.train.min()) >= 0
    assert int(tokens.train.max()) < len(tokens.vocabulary)
    assert tokens.train.dtype == torch.int64


def test_vocabulary_depends_only_on_the_training_part():
    tokens = tokenize(plain("seen " * 5, "unseen seen"))
    assert "unseen" not in tokens.vocabulary
    assert tokens.held_out.tolist()[0] == 0


@pytest.mark.parametrize("size", [1, 0, -3])
def test_vocabulary_size_below_two_is_refused(size):
    with pytest.raises(BadInput, match=rf"`vocabulary_size` is {size}; expected at least 2"):
        tokenize(plain("one two"), vocabulary_size=size)


def test_text_too_short_for_a_batch_is_refused():
    tokens = tokenize(plain("word " * 100, "word " * 20))
    assert (len(tokens.train), len(tokens.held_out)) == (101, 21)
    require_tokens(tokens, batch_size=9, length=10, num_probe_sequences=1)
    with pytest.raises(BadInput, match=r"only 101 tokens to train on; expected at least 110 \(10 sequences of 10 "):
        require_tokens(tokens, batch_size=10, length=10, num_probe_sequences=1)
    with pytest.raises(BadInput, match=r"only 21 tokens held out; expected at least 22 "):
        require_tokens(tokens, batch_size=2, length=10, num_probe_sequences=2)


# --- the control


def test_shuffling_keeps_every_count_and_changes_the_order():
    tokens = tokenize(plain("one two three four five. " * 50, "one two. " * 30))
    mixed = shuffled(tokens, seed=3)
    for before, after in [(tokens.train, mixed.train), (tokens.held_out, mixed.held_out)]:
        assert torch.equal(before.sort().values, after.sort().values)
        assert not torch.equal(before, after)
    pairs = Counter(zip(mixed.train[:-1].tolist(), mixed.train[1:].tolist(), strict=True))
    assert len(pairs) > 2 * len(set(zip(tokens.train[:-1].tolist(), tokens.train[1:].tolist(), strict=True)))
    assert mixed.name == "sample-shuffled"
    assert "random order (seed 3)" in mixed.description
    assert mixed.vocabulary == tokens.vocabulary
    assert torch.equal(shuffled(tokens, seed=3).train, mixed.train)
    assert len({tokens.digest, mixed.digest, shuffled(tokens, seed=4).digest}) == 3


def test_uniform_words_are_equally_frequent_random_and_as_many():
    tokens = tokenize(plain("one two three four five. " * 500, "one two. " * 30))
    even = uniform(tokens, seed=3)
    assert (len(even.train), len(even.held_out)) == (len(tokens.train), len(tokens.held_out))
    size = len(tokens.vocabulary)
    expected = len(even.train) / size
    counts = torch.bincount(even.train, minlength=size).double()
    assert (counts - expected).abs().max() < 5 * expected**0.5  # five standard deviations
    assert (torch.bincount(tokens.train, minlength=size).double() - expected).abs().max() > 5 * expected**0.5
    assert even.name == "sample-uniform"
    assert even.vocabulary == tokens.vocabulary
    assert torch.equal(uniform(tokens, seed=3).train, even.train)
    assert len({tokens.digest, even.digest, uniform(tokens, seed=4).digest}) == 3


# --- the digest


def test_digest_is_the_same_in_another_process():
    code = """
from joma.train.text.reading import Text
from joma.train.text.vocabulary import tokenize
print(tokenize(Text("sample", "a sample", "b a c c, d" * 9, "a e"), 5).digest)
"""
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert other.stdout.strip() == tokenize(plain("b a c c, d" * 9, "a e"), 5).digest


@pytest.mark.parametrize(
    ("train", "held_out", "size"), [("a b a c", "a", 3), ("a b b c", "b", 3), ("a b a c", "a", 4), ("a z a c", "a", 3)]
)
def test_digest_differs_between_texts_and_vocabularies(train, held_out, size):
    assert tokenize(plain(train, held_out), size).digest != tokenize(plain("a b a c", "b"), 3).digest
    renamed = dataclasses.replace(plain(train, held_out), name="other", description="another")
    assert tokenize(renamed, size).digest == tokenize(plain(train, held_out), size).digest


# --- files


def test_tokens_survive_saving_and_loading(tmp_path):
    tokens = tokenize(plain('the <script> of “naïve” 東京 \\ "quotes" \x07 words\n', pretokenized=True))
    path = tmp_path / "tokens.safetensors"
    save_tokens(tokens, path)
    read = load_tokens(path)
    assert torch.equal(read.train, tokens.train)
    assert torch.equal(read.held_out, tokens.held_out)
    assert read.train.dtype == torch.int64
    fields = ("name", "description", "vocabulary", "digest", "share_unknown")
    assert [getattr(read, field) for field in fields] == [getattr(tokens, field) for field in fields]
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path):
    tokens = tokenize(plain("a few words"))
    path = tmp_path / "tokens.safetensors"
    save_tokens(tokens, path)
    with pytest.raises(TypeError):
        save_tokens(dataclasses.replace(tokens, name=object()), path)
    assert load_tokens(path).digest == tokens.digest


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_truncated_file_of_tokens_is_refused(tmp_path, length):
    path = tmp_path / "tokens.safetensors"
    save_tokens(tokenize(plain("a few words " * 100)), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadInput, match="is no intact file of tokens"):
        load_tokens(path)


def test_altered_or_other_file_is_refused(tmp_path):
    path = tmp_path / "tokens.safetensors"
    save_tokens(tokenize(plain("a few words " * 100)), path)
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="its digest does not match"):
        load_tokens(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(BadInput, match="is no intact file of tokens"):
        load_tokens(path)
    with pytest.raises(BadInput, match="is no intact file of tokens"):
        load_tokens(tmp_path / "absent.safetensors")


# --- tokenizers


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory) -> Path:
    """A byte-level BPE of 300 tokens, learned from two sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog sat on the cat"] * 10, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_tokenizer_from_a_file_encodes_the_whole_text(tokenizer_file):
    from tokenizers import Tokenizer

    train = "the cat sat.\nÜber the dog\n" * 9000  # longer than one piece
    tokens = tokenize(plain(train, "a zebra"), tokenizer=str(tokenizer_file))
    own = Tokenizer.from_file(str(tokenizer_file))
    assert words(tokens) == own.encode(train, add_special_tokens=False).tokens
    assert own.decode([own.token_to_id(word) for word in words(tokens)]) == train
    assert len(tokens.vocabulary) == len(set(tokens.train.tolist()) | set(tokens.held_out.tolist()))
    assert len(tokens.vocabulary) < own.get_vocab_size()
    assert tokens.share_unknown == 0
    assert f"{len(tokens.vocabulary)} tokens of the tokenizer {tokenizer_file}" in tokens.description


def test_tokenizer_from_a_folder_reports_the_share_of_unknown_tokens(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = {"[UNK]": 0, "the": 1, "cat": 7, "never": 9}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokens = tokenize(plain("the cat and the hat", "cat"), tokenizer=str(tmp_path))
    assert tokens.vocabulary == ("[UNK]", "the", "cat")
    assert tokens.train.tolist() == [1, 2, 0, 1, 0]
    assert tokens.share_unknown == 2 / 5


def test_vocabulary_size_together_with_a_tokenizer_is_refused(tokenizer_file):
    with pytest.raises(BadInput, match="leave out the vocabulary size"):
        tokenize(plain("some words"), 2000, str(tokenizer_file))


def test_invalid_tokenizer_is_refused(tmp_path, tokenizer_file):
    with pytest.raises(BadInput, match=r"did you mean 'tokenizer\.json'\?"):
        tokenize(plain("some words"), tokenizer=str(tokenizer_file.with_name("tokeniser.json")))
    broken = tmp_path / "tokenizer.json"
    broken.write_bytes(tokenizer_file.read_bytes()[:-50])
    with pytest.raises(BadInput, match="check the file"):
        tokenize(plain("some words"), tokenizer=str(broken))
    with pytest.raises(BadInput, match="check the name and the network"):
        tokenize(plain("some words"), tokenizer="no-such-owner/no-such-tokenizer")


@pytest.mark.parametrize(
    "change",
    [
        *(lambda facts, other=other: other for other in ([], None, 3, "x", {})),
        lambda facts: facts | {"vocabulary": None},
        lambda facts: facts | {"vocabulary": "words"},
        lambda facts: facts | {"name": 3},
        lambda facts: facts | {"share_unknown": "half"},
        lambda facts: facts | {"more": 1},
    ],
)
def test_facts_of_another_shape_are_refused(tmp_path, change):
    path = tmp_path / "tokens.safetensors"
    save_tokens(tokenize(plain("a few words " * 100)), path)
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["tokens"])
    save_file(load_file(path), path, {"tokens": json.dumps(change(facts))})
    with pytest.raises(BadInput, match="is no intact file of tokens"):
        load_tokens(path)


def test_tokens_that_are_no_vector_are_refused(tmp_path):
    path = tmp_path / "tokens.safetensors"
    save_tokens(tokenize(plain("a few words " * 100)), path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    for other in (torch.tensor(3), torch.zeros(2, 3)):
        save_file({"train": other, "held_out": other.clone()}, path, metadata)
        with pytest.raises(BadInput, match="is no intact file of tokens"):
            load_tokens(path)


# --- the basic-english tokenisation


def test_basic_english_separates_marks_drops_quotes_and_ends_no_line():
    tokens = tokenize(plain('He said: "It\'s (so)!"\n\nA; b, c<br />d.', pretokenized=True), splitting="basic-english")
    assert words(tokens) == ["he", "said", "it", "'", "s", "(", "so", ")", "!", "a", "b", ",", "c", "d", "."]
    assert END not in tokens.vocabulary


def test_basic_english_keeps_all_words_unless_a_size_is_given():
    text = plain("a a b c")
    assert tokenize(text, splitting="basic-english").vocabulary == (UNKNOWN, "a", "b", "c")
    assert "all its 4 words, split as basic-english" in tokenize(text, splitting="basic-english").description
    assert tokenize(text, 2, splitting="basic-english").vocabulary == (UNKNOWN, "a")


def test_basic_english_of_wikitext_2_has_the_words_and_batches_of_the_paper(wikitext):
    tokens = tokenize(wikitext, splitting="basic-english")
    assert (len(tokens.vocabulary), len(tokens.train)) == (28_782, 2_049_990)
    rows = len(tokens.train) // 20
    assert (rows - 1) // 35 == 2_928  # whole batches of 20 x 35 in an epoch


def test_sentence_is_split_as_the_tokens_were(tmp_path):
    save_tokens(tokenize(plain("it ' s a . b"), splitting="basic-english"), tmp_path / "tokens.safetensors")
    tokens = load_tokens(tmp_path / "tokens.safetensors")
    assert [tokens.vocabulary[id] for id in ids_of(tokens, "It's a.").tolist()] == ["it", "'", "s", "a", "."]


def test_splitting_that_does_not_exist_or_is_given_with_a_tokenizer_is_refused():
    with pytest.raises(BadInput, match="did you mean 'basic-english'"):
        tokenize(plain("a b"), splitting="basic_english")
    with pytest.raises(BadInput, match="together with the tokenizer"):
        tokenize(plain("a b"), tokenizer="gpt2", splitting="basic-english")


def test_progress_is_reported_as_the_text_is_read(monkeypatch):
    monkeypatch.setattr(vocabulary, "_REPORTED", 10)
    seen = []
    tokenize(plain("a cat\n\n" * 10), progress=lambda what, done, total: seen.append((what, done, total)))
    assert [done for _, done, _ in seen] == [13, 20, 34, 41, 55, 62, 70]  # the ends of lines after ten characters
    assert {(what, total) for what, _, total in seen} == {("reading the text", 70)}
