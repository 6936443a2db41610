"""Downloads from a hub, by the real clients from a real server on the loopback interface."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import LocalHub, local_hub
from tiny import tiny_law

from joma.errors import BadInput
from joma.train.hierarchies import as_dataset
from joma.train.text.reading import read_text

LINES = {
    "test": ["", " left alone \n"],
    "train": ["", " = A = \n", "", " the <unk> cat , and another @-@ cat \n", ""],
    "validation": ["", " the cat \n"],
}
CARD = """---
configs:
- config_name: wikitext-2-v1
  data_files:
""" + "".join(f"  - split: {part}\n    path: wikitext-2-v1/{part}-*\n" for part in LINES)

READ_WIKITEXT = """
from joma.train.text.reading import read_text
from joma.train.text.vocabulary import tokenize
import json
text = read_text("wikitext2")
print(json.dumps([text.train, text.held_out, text.description, len(tokenize(text).train)]))
"""
USE_TOKENIZERS = """
from joma.errors import BadInput
from joma.train.text.reading import Text
from joma.train.text.vocabulary import tokenize
import json
text, found = Text("sample", "a sample", "the cat and the hat", "cat"), {}
for name in ("words", "code", "absent"):
    try:
        tokens = tokenize(text, tokenizer=f"someone/{name}")
        found[name] = [tokens.vocabulary, tokens.train.tolist(), tokens.description]
    except BadInput as error:
        found[name] = str(error)
print(json.dumps(found))
"""


@pytest.fixture
def hub(tmp_path: Path):
    """A hub with a data set in the layout of WikiText, and with models that contain a tokenizer and code."""
    release = tmp_path / "datasets" / "Salesforce" / "wikitext" / "wikitext-2-v1"
    release.mkdir(parents=True)
    for part, lines in LINES.items():
        pq.write_table(pa.table({"text": lines}), release / f"{part}-00000-of-00001.parquet")
    (release.parent / "README.md").write_text(f"{CARD}---\n")
    _write_tokenizer(tmp_path / "models" / "someone" / "words")
    own = tmp_path / "models" / "someone" / "code"
    own.mkdir()
    config = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (own / "tokenizer_config.json").write_text(json.dumps(config))
    (own / "own.py").write_text(f"open({str(tmp_path / 'it ran')!r}, 'w')\nclass Own: pass\n")
    with local_hub(tmp_path) as running:
        yield running


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def client(code: str, endpoint: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new process, because clients read the address of their hub when they are imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "JOMA_"))}
    environment = kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | variables
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def answer(run: subprocess.CompletedProcess[str]) -> list:
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_wikitext_is_downloaded_from_the_hub(hub: LocalHub, tmp_path):
    train, held_out, description, num_tokens = answer(client(READ_WIKITEXT, hub.endpoint, tmp_path / "home"))
    assert train == "\n = A = \n\n the <unk> cat , and another @-@ cat \n\n"
    assert held_out == "\n the cat \n"
    assert num_tokens == 11 + 5  # each of the five lines has an end
    assert "the hub (Salesforce/wikitext)" in description
    assert any(request.startswith("GET") and "train-00000" in request for request in hub.requests)

    # What was fetched once is not fetched again, and needs no hub any more.
    hub.requests.clear()
    answer(client(READ_WIKITEXT, hub.endpoint, tmp_path / "home", HF_HUB_OFFLINE="1"))
    assert not hub.requests


def test_folder_has_precedence_over_the_hub(hub: LocalHub, tmp_path):
    folder = tmp_path / "texts"
    (folder / "wikitext-2").mkdir(parents=True)
    for part in ("train", "valid"):
        (folder / "wikitext-2" / f"{part}.txt").write_text(f" from the folder , {part} \n")
    train, held_out, description, _ = answer(
        client(READ_WIKITEXT, hub.endpoint, tmp_path / "home", JOMA_DATA=str(folder))
    )
    assert (train, held_out) == (" from the folder , train \n", " from the folder , valid \n")
    assert "JOMA_DATA" in description
    assert not hub.requests


def test_tokenizers_are_downloaded_and_repository_code_is_not_executed(hub: LocalHub, tmp_path):
    found = answer(client(USE_TOKENIZERS, hub.endpoint, tmp_path / "home"))
    vocabulary, ids, description = found["words"]
    assert vocabulary == ["[UNK]", "the", "cat"]
    assert ids == [1, 2, 0, 1, 0]
    assert "3 tokens of the tokenizer someone/words" in description
    assert any(request.startswith("GET") and "tokenizer.json" in request for request in hub.requests)

    assert "cannot load the tokenizer 'someone/code'" in found["code"]
    assert any("/someone/code/" in request for request in hub.requests)
    assert not any("own.py" in request for request in hub.requests)
    assert not (tmp_path / "it ran").exists()

    assert "cannot load the tokenizer 'someone/absent'" in found["absent"]
    assert "check the name and the network" in found["absent"]


def test_error_without_a_network_suggests_the_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("JOMA_DATA", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(BadInput, match=r"cannot be downloaded from the hub .* a network .* set JOMA_DATA to a folder"):
        read_text("wikitext103")
    monkeypatch.setenv("JOMA_DATA", str(tmp_path))
    with pytest.raises(BadInput, match=f"JOMA_DATA is {tmp_path}, which does not contain it"):
        read_text("wikitext103")


@pytest.mark.slow
def test_unreachable_hub_is_an_error(tmp_path):
    """The client retries for half a minute."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    run = client(READ_WIKITEXT, f"http://127.0.0.1:{port}", tmp_path)
    assert "BadInput: wikitext-2 cannot be fetched from the hub (ConnectionError" in run.stderr
    assert "set JOMA_DATA to a folder" in run.stderr


def test_error_without_the_client_names_the_extra(monkeypatch):
    monkeypatch.delenv("JOMA_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)  # what import finds where it is not installed
    with pytest.raises(BadInput, match=r"wikitext-2 is downloaded from .*pip install 'joma\[hub\]'`, or set JOMA_DATA"):
        read_text("wikitext2")


def test_dataset_without_the_client_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"the dataset is made with it; .*pip install 'joma\[hub\]'`$"):
        as_dataset(tiny_law(), 5)


def test_folder_variable_without_a_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("JOMA_DATA", str(tmp_path / "absent"))
    with pytest.raises(BadInput, match=r"JOMA_DATA is .*absent', which is no folder"):
        read_text("wikitext2")
