"""Series of saved steps: the layout of a hub, reproducible files, complete steps, loadable by transformers."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXForCausalLM, OPTForCausalLM

from joma.errors import BadInput, InvalidArgument, RunFailed
from joma.saved.series import open_series
from joma.train.series import SeriesRecipe, shrink_series, step_folder, train_series
from joma.train.text.reading import Text
from joma.train.text.tokenizers import learned_tokenizer
from joma.train.text.vocabulary import tokenize

RECIPE = SeriesRecipe(num_steps=20, save_every=8, learning_rate=3e-3, batch_size=4, length=16, width=16, num_heads=2)
WORDS = "the cat saw the dog and the dog saw the cat. who saw whom? nobody knows, said the owl.\n"


@pytest.fixture(scope="module")
def text() -> Text:
    return Text("owl", "a short story", WORDS * 80, WORDS * 10)


@pytest.fixture(scope="module")
def tokenizer(text) -> str:
    return learned_tokenizer(text.train, 300)


@pytest.fixture(scope="module")
def tokens(text, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer, encoding="utf-8")
    return tokenize(text, None, str(path), keep_ids=True)


def files_of(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("num_steps", "save_every", "expected"),
    [
        (20, 8, (0, 1, 2, 4, 8, 16, 20)),
        (3, 8, (0, 1, 2, 3)),
        (6, 1, tuple(range(7))),
        (30, 12, (0, 1, 2, 4, 8, 12, 24, 30)),
    ],
)
def test_saved_steps_double_and_then_are_even_with_the_last(num_steps, save_every, expected):
    assert SeriesRecipe(num_steps=num_steps, save_every=save_every).saved_steps() == expected


@pytest.mark.parametrize(("family", "kind"), [("gpt_neox", GPTNeoXForCausalLM), ("opt", OPTForCausalLM)])
def test_every_saved_step_is_a_loadable_model_with_its_tokenizer(tmp_path, text, tokens, tokenizer, family, kind):
    calls = []
    recipe = replace(RECIPE, family=family)
    folder = train_series(recipe, tokens, tokenizer, tmp_path / "series", progress=lambda *call: calls.append(call))
    assert open_series(folder).steps == recipe.saved_steps()
    assert calls[0] == ("training", 0, 20)
    assert calls[-1] == ("training", 20, 20)
    assert not list(folder.rglob(".*"))
    losses = []
    for step in (0, 20):
        place = step_folder(folder, step)
        model, loading = AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
        assert isinstance(model, kind)
        assert not loading["missing_keys"]
        assert not loading["unexpected_keys"]
        ids = AutoTokenizer.from_pretrained(place)(text.held_out, return_tensors="pt")["input_ids"]
        assert torch.equal(ids[0], tokens.held_out)
        with torch.no_grad():
            losses.append(model(ids[:, :16], labels=ids[:, :16]).loss.item())
    assert losses[1] < losses[0] - 0.5


def test_the_same_recipe_and_text_give_the_same_files(tmp_path, tokens, tokenizer):
    first, second = (files_of(train_series(RECIPE, tokens, tokenizer, tmp_path / name)) for name in ("a", "b"))
    other = files_of(train_series(replace(RECIPE, seed=1), tokens, tokenizer, tmp_path / "c"))
    assert first == second
    assert first["step0/model.safetensors"] != other["step0/model.safetensors"]


class Stop(Exception):
    """Raised by the progress callback of a test."""


@pytest.mark.parametrize("family", ["gpt_neox", "opt"])
def test_series_stopped_at_any_step_is_resumed_to_the_same_files(tmp_path, tokens, tokenizer, family):
    recipe = replace(RECIPE, family=family)
    whole = files_of(train_series(recipe, tokens, tokenizer, tmp_path / "whole"))
    folder, went_through = tmp_path / "stopped", []
    for last in (11, 17):

        def stop(_: str, done: float, num_steps: float, last: int = last) -> None:
            went_through.append(done)
            if done == last:
                raise Stop

        with pytest.raises(Stop):
            train_series(recipe, tokens, tokenizer, folder, progress=stop)
    assert went_through[12] == 11  # from the very step that it was stopped at
    (folder / "step2" / "model.safetensors").unlink()  # a step that went missing is made again
    assert files_of(train_series(recipe, tokens, tokenizer, folder)) == whole


def test_finished_series_is_not_trained_again(tmp_path, tokens, tokenizer):
    folder = train_series(RECIPE, tokens, tokenizer, tmp_path / "series")
    calls = []
    train_series(RECIPE, tokens, tokenizer, folder, progress=lambda *call: calls.append(call))
    assert calls == [("training", 20, 20)]


@pytest.mark.parametrize(("name", "step"), [("model.safetensors", 4), ("config.json", 0), ("tokenizer.json", 20)])
def test_damaged_step_of_a_finished_series_is_reported_and_made_again(tmp_path, tokens, tokenizer, name, step):
    folder = train_series(RECIPE, tokens, tokenizer, tmp_path / "series")
    whole, path = files_of(folder), step_folder(folder, step) / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=f"step {step} of .* is damaged: trained again"):
        train_series(RECIPE, tokens, tokenizer, folder)
    assert files_of(folder) == whole


@pytest.mark.parametrize("content", ["[]", "null", "3", "{", "[" * 100_000])
def test_recipe_of_a_series_of_another_shape_is_one_error(tmp_path, tokens, tokenizer, content):
    (tmp_path / "series.json").write_text(content)
    with pytest.raises(BadInput, match=r"series\.json cannot be read"):
        train_series(RECIPE, tokens, tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("family", "lower"),
    [("gpt_neox", "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"), ("opt", "model.decoder.layers.0.fc1.weight")],
)
def test_initial_scale_multiplies_initial_weights_and_weight_decay_shrinks_the_last(
    tmp_path, tokens, tokenizer, family, lower
):
    def norms(name, **changed):
        folder = train_series(replace(RECIPE, family=family, **changed), tokens, tokenizer, tmp_path / name)
        steps = [load_file(step_folder(folder, step) / "model.safetensors") for step in (0, RECIPE.num_steps)]
        return [weights[lower].norm().item() for weights in steps]

    usual, scaled, decayed = norms("a"), norms("b", initial_scale=2.0), norms("c", weight_decay=5.0)
    assert scaled[0] == pytest.approx(2 * usual[0])
    assert decayed[0] == usual[0]
    assert decayed[1] < usual[1]


def test_series_of_a_recipe_from_before_these_were_settings_is_recognised(tmp_path, tokens, tokenizer):
    folder = train_series(RECIPE, tokens, tokenizer, tmp_path / "series")
    path = folder / "series.json"
    content = json.loads(path.read_text())
    for name in ("weight_decay", "initial_scale"):
        del content["recipe"][name]
    path.write_text(json.dumps(content))
    before = files_of(folder)
    train_series(RECIPE, tokens, tokenizer, folder)
    assert files_of(folder) == before
    with pytest.raises(BadInput, match="another recipe"):
        train_series(replace(RECIPE, weight_decay=0.1), tokens, tokenizer, folder)


def test_folder_with_another_series_or_other_files_is_refused(tmp_path, tokens, tokenizer):
    folder = train_series(RECIPE, tokens, tokenizer, tmp_path / "series")
    with pytest.raises(BadInput, match="another recipe"):
        train_series(replace(RECIPE, seed=5), tokens, tokenizer, folder)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"no series \(notes.txt\)"):
        train_series(RECIPE, tokens, tokenizer, tmp_path / "else")


def test_nan_loss_stops_the_series_and_keeps_saved_steps(tmp_path, tokens, tokenizer):
    with pytest.raises(RunFailed, match=r"NaN or infinite at step 2.*saved steps up to 1"):
        train_series(replace(RECIPE, learning_rate=1e30), tokens, tokenizer, tmp_path / "series")
    assert load_file(tmp_path / "series" / "step0" / "model.safetensors")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("family", "llama"), ("num_steps", 0), ("length", 1), ("width", 18), ("warm_up", 21), ("learning_rate", 0.0)],
)
def test_series_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(InvalidArgument, match=setting):
        replace(RECIPE, **{setting: value})


def test_text_too_short_for_a_series_is_refused(tmp_path, tokens, tokenizer):
    with pytest.raises(BadInput, match="tokens to train on"):
        train_series(replace(RECIPE, batch_size=4000), tokens, tokenizer, tmp_path / "series")


def test_learned_tokenizer_decodes_what_it_encoded(text, tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer, encoding="utf-8")
    tokens = tokenize(text, None, str(path), keep_ids=True)
    assert json.loads(tokenizer)["model"]["vocab"]["<|padding|>"] == 1
    assert len(tokens.vocabulary) == len(json.loads(tokenizer)["model"]["vocab"])
    assert tokenizer == learned_tokenizer(text.train, 300)
    with pytest.raises(InvalidArgument, match="every byte"):
        learned_tokenizer(text.train, 100)
    with pytest.raises(InvalidArgument, match="keep_ids"):
        tokenize(text, 300, keep_ids=True)


def test_a_shrunk_series_keeps_its_last_step_and_is_made_again_to_the_bit(tmp_path, tokens, tokenizer):
    folder = train_series(RECIPE, tokens, tokenizer, tmp_path / "series")
    before = files_of(folder)
    freed = shrink_series(folder)
    after = files_of(folder)
    assert {name for name in after if name.startswith("step")} == {name for name in before if "step20/" in name}
    assert freed == sum(map(len, before.values())) - sum(map(len, after.values())) > 0
    assert shrink_series(folder) == 0
    train_series(RECIPE, tokens, tokenizer, folder)
    assert files_of(folder) == before
