"""`joma.sentence` against transformers' own weights, its page in a real browser, and what it refuses."""

import shutil
from dataclasses import replace

import pandas
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2Model, MambaConfig, MambaModel, PreTrainedTokenizerFast

import joma
from joma.errors import BadInput
from joma.studies.sentence import MOST_STEPS
from linking import explorer_of

TEXT = "the cat sat on the mat"
WORDS = ["<bos>", "<unk>", *sorted(set(TEXT.split()))]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    words = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", unk_token="<unk>").save_pretrained(folder)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=80, initializer_range=0.5)
    for step in range(0, 1500, 100):
        torch.manual_seed(step)
        GPT2Model(config).save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture(scope="module")
def found(series):
    return joma.sentence(series, TEXT)


def test_weights_are_those_that_the_model_returns(series, found):
    step = max(found.weights)
    model = GPT2Model.from_pretrained(series / f"step{step}", attn_implementation="eager").eval().double()
    for order, words in enumerate(found.tokens):
        ids = torch.tensor([[WORDS.index(word) for word in words]])
        with torch.no_grad():
            expected = torch.cat(model(ids, output_attentions=True).attentions)
        torch.testing.assert_close(found.weights[step][order], expected, atol=1e-5, rtol=0)


def test_up_to_twelve_steps_are_read_the_first_and_the_last_among_them(found):
    assert len(found.weights) <= MOST_STEPS
    assert (min(found.weights), max(found.weights)) == (0, 1400)


def test_the_shuffled_sentence_has_the_same_words_in_another_order(series, found):
    written, mixed = found.tokens
    assert list(written) == TEXT.split()
    assert sorted(written) == sorted(mixed)
    assert list(written) != list(mixed)
    again = joma.sentence(series, TEXT, steps="0", seed=0)
    assert again.tokens == found.tokens
    assert joma.sentence(series, TEXT, steps="0", seed=1).tokens[1] != mixed


def test_tables_and_words_have_the_entropies_of_the_weights(found):
    verdicts = found.verdicts()
    assert len(verdicts) == len(found.weights) * 2 * 2
    row = verdicts[(verdicts["step"] == 0) & (verdicts["order"] == "as written") & (verdicts["layer"] == 1)]
    weights = found.weights[0][0, 1]
    assert row["attention_entropy_nats"].item() == pytest.approx(-weights.xlogy(weights).sum(-1).mean().item())
    frame = found.frame()
    sums = frame.groupby(["step", "order", "layer", "head", "query"])["weight"].sum()
    assert sums.between(1 - 1e-9, 1 + 1e-9).all()
    assert (frame["key"] <= frame["query"]).all()
    assert "6 tokens at" in found.summary()
    assert len(found.pictures()) == 4


@pytest.mark.parametrize("text", ["", "cat", "cat " * 65], ids=["none", "one", "too many"])
def test_a_sentence_of_another_length_is_refused(series, text):
    with pytest.raises(BadInput, match=r"the sentence has .* tokens; expected 2 to 64 tokens"):
        joma.sentence(series, text)


def test_a_model_without_attention_is_refused(series, tmp_path):
    config = MambaConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, state_size=4)
    MambaModel(config).save_pretrained(tmp_path / "step0")
    with pytest.raises(BadInput):
        joma.sentence(tmp_path, TEXT, tokenizer=str(series))


def test_a_step_that_cannot_be_read_is_named_with_its_reason(series, tmp_path):
    folder = shutil.copytree(series, tmp_path / "copy")
    first = sorted(folder.glob("step*"))[0]
    (first / "model.safetensors").write_bytes(b"damaged")
    found = joma.sentence(folder, TEXT)
    assert len(found.failed) == 1
    assert f"cannot be read: steps {next(iter(found.failed)):,} (" in found.summary()


def test_the_page_links_to_an_explorer_with_the_sentence_where_there_are_measurements(found, tmp_path):
    assert "shipped with joma" in explorer_of(found.write(tmp_path / "weights")).read_text()
    rows = [("mine", step, 0, 0, "attention_entropy_nats", 1.0) for step in (0, 9)]
    source = tmp_path / "mine.csv"
    pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"]).to_csv(source, index=False)
    own = explorer_of(replace(found, source=str(source)).write(tmp_path / "measured")).read_text()
    assert f"Shown: mine in {source}." in own
    assert f"“{TEXT}”" in own


@pytest.mark.browser
def test_the_controls_of_the_page_choose_step_layer_and_head(found, tmp_path):
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no browser on this machine")
    path = found.write(tmp_path)
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--headless", "--no-sandbox"])
        tab, complaints = browser.new_page(viewport={"width": 390, "height": 844}), []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(path.as_uri())
        tab.wait_for_selector(".plot .main-svg")
        tab.select_option("select >> nth=0", label="layer 1")
        tab.select_option("select >> nth=1", label="head 0")
        tab.locator("input[type=range]").fill("0")
        assert tab.locator(".slider output").inner_text() == "0"
        shown = tab.evaluate("document.querySelectorAll('.plot')[1].data[0].z")
        expected = found.weights[0][1, 1, 0].flip(0)
        torch.testing.assert_close(torch.tensor(shown, dtype=torch.float64), expected, atol=6e-4, rtol=0)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert complaints == []
        browser.close()
