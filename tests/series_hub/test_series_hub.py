"""End-to-end tests: series trained on real text and served by a local hub, with faults, are verified and scanned.

Faults are planted in a copy of the series, in several steps at a time; each must be reported for the right step.
"""

import json
import shutil
import threading
import time
from http import HTTPStatus
from pathlib import Path

import pandas
import pytest
from faulty_series import as_bin, copy_weights, cut_off, plant_malicious, rename_tensor, write_index
from hub_client import point_to
from hub_server import Fault, LocalHub, local_hub
from safetensors.torch import load_file, save_file

from joma.cli import main
from joma.train.series import SeriesRecipe, train_series
from joma.train.text.reading import read_text
from joma.train.text.tokenizers import learned_tokenizer
from joma.train.text.vocabulary import tokenize

FAMILIES = ("gpt_neox", "opt")
RECIPE = SeriesRecipe(num_steps=80, save_every=8, learning_rate=3e-3, length=32, width=32)
STEPS = RECIPE.saved_steps()
MEASURES = "attention_entropy_nats,val_loss_nats"
SCAN = ["--length", "32", "--sequences", "4", "--workers", "1"]
LOWER = {
    "gpt_neox": "gpt_neox.layers.1.mlp.dense_h_to_4h.weight",
    "opt": "model.decoder.layers.1.fc1.weight",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Both families, trained on the text that ships with Python."""
    folder, text = tmp_path_factory.mktemp("trained"), read_text()
    tokenizer = learned_tokenizer(text.train, 400)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    tokens = tokenize(text, None, str(folder / "tokenizer.json"), keep_ids=True)
    for family in FAMILIES:
        train_series(SeriesRecipe(**{**vars(RECIPE), "family": family}), tokens, tokenizer, folder / family)
    return folder


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def served(trained, family, tmp_path) -> dict[int, Path]:
    """Put a copy of the series into a hub's folder, one branch per step; return each step's folder."""
    models = tmp_path / "served" / "models" / "someone"
    places = {step: models / f"tiny@step{step}" for step in STEPS}
    for step, place in places.items():
        shutil.copytree(trained / family / f"step{step}", place)
    shutil.copytree(places[STEPS[-1]], models / "tiny")
    return places


@pytest.fixture
def hub(served, tmp_path, monkeypatch):
    with local_hub(tmp_path / "served") as running:
        connect(running, tmp_path, monkeypatch)
        yield running


def connect(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(hub.endpoint, tmp_path, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def verified(capsys, status: int) -> dict[int, list[dict]]:
    """The suspects that the command line reports, by step."""
    assert main(["scan", "someone/tiny", "--verify", "--json"]) == status
    rows: dict[int, list[dict]] = {}
    for row in json.loads(capsys.readouterr().out)["rows"]:
        rows.setdefault(row["step"], []).append(row)
    return rows


def scanned(source, out: Path, trained: Path, measures: str = "val_loss_nats") -> pandas.DataFrame:
    """Scan a series; the tokenizer is local, since transformers keeps using the first hub it was given.

    By default only what no picture is drawn of, which takes longer than measuring.
    """
    words = [*SCAN, "--measures", measures, "--tokenizer", str(trained / "tokenizer.json"), "--out", str(out)]
    assert main(["scan", str(source), *words]) == 0
    return pandas.read_parquet(out / "metrics.parquet").drop(columns="run")


def as_shards(place: Path) -> list[Path]:
    """Replace the weights by two shards and an index."""
    tensors = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    files = [place / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for file, part in zip(files, parts, strict=True):
        save_file({name: tensors[name] for name in part}, file, {"format": "pt"})
    write_index(place, {name: file.name for file, part in zip(files, parts, strict=True) for name in part})
    return files


def test_an_intact_series_has_no_suspects_and_the_same_scan_as_its_folder(trained, family, hub, tmp_path, capsys):
    assert verified(capsys, 0) == {}
    from_hub, from_folder = (
        scanned("someone/tiny", tmp_path / "from_hub", trained, MEASURES),
        scanned(trained / family, tmp_path / "from_folder", trained, MEASURES),
    )
    pandas.testing.assert_frame_equal(from_hub, from_folder)
    loss = from_hub[from_hub["metric"] == "val_loss_nats"].groupby("step")["value"].mean()
    assert loss.loc[80] < loss.loc[0] - 0.5


def test_every_planted_fault_is_reported_for_the_right_step(family, served, hub, trained, tmp_path, capsys):
    trace = tmp_path / "the pickle was run"
    copy_weights(served[80], served[0])
    copy_weights(served[8], served[16])
    cut_off(as_shards(served[24])[1])
    as_shards(served[32])
    as_bin(served[40])
    (served[48] / "model.safetensors").unlink()
    plant_malicious(served[48] / "pytorch_model.bin", trace)
    rename_tensor(served[56], LOWER[family], LOWER[family].replace("layers.1", "layers.9"))
    hub.faults += [Fault("step64", times=2)]
    rows = verified(capsys, 1)
    kinds = {step: {row["kind"] for row in found} for step, found in rows.items()}
    twins = {8, 16} & set(kinds)  # either of two equal neighbours may be reported as the copy
    assert set(kinds) == {0, 24, 48, 56} | twins
    assert len(twins) == 1
    assert "identical" in kinds[0]
    assert "step 80" in rows[0][0]["evidence"]
    assert kinds[twin := twins.pop()] == {"identical"}
    assert f"step {24 - twin}" in rows[twin][0]["evidence"]
    assert kinds[24] == kinds[48] == {"unreadable"}
    assert kinds[56] == {"tensors"}
    assert LOWER[family] in rows[56][0]["evidence"]
    frame = scanned("someone/tiny", tmp_path / "out", trained)
    reasons = frame[frame["reason"].notna()].set_index("step")["reason"]
    assert set(reasons.index) == {24, 48, 56}
    assert LOWER[family] in reasons.loc[56]
    assert set(frame["step"]) == set(STEPS)
    assert not trace.exists()


def test_trained_weights_under_step_0_are_reported(family, served, hub, trained, capsys):
    copy_weights(served[72], served[0])
    shutil.rmtree(served[72])
    rows = verified(capsys, 1)
    assert {row["kind"] for row in rows[0]} & {"not_initialisation", "out_of_place"}
    assert "error" in {row["severity"] for row in rows[0]}
    assert list(rows) == [0, 72]
    assert [row["kind"] for row in rows[72]] == ["gap"]


@pytest.mark.slow
def test_bin_files_and_shards_give_the_same_numbers_as_one_file(family, served, hub, trained, tmp_path):
    as_bin(served[40])
    as_shards(served[32])
    from_hub, from_folder = (
        scanned("someone/tiny", tmp_path / "from_hub", trained),
        scanned(trained / family, tmp_path / "from_folder", trained),
    )
    pandas.testing.assert_frame_equal(from_hub, from_folder)


def test_a_missing_revision_is_named_with_the_nearest(served, hub, capsys):
    shutil.rmtree(served[40])
    assert main(["scan", "someone/tiny", "--verify", "--steps", "32,40"]) == 2
    message = capsys.readouterr().err
    assert "no step 40" in message
    assert "32" in message


@pytest.mark.parametrize("family", FAMILIES[:1], indirect=True)
def test_measured_steps_survive_when_the_hub_stops(family, hub, trained, tmp_path, monkeypatch):
    out, deadline = tmp_path / "out", time.monotonic() + 60

    def stop_hub() -> None:
        while num_measured(out) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        hub.faults.append(Fault("", times=10**9, status=HTTPStatus.OK, sent=0))
        hub.shutdown()
        hub.server_close()
        hub.hang_up()

    stopping = threading.Thread(target=stop_hub)
    stopping.start()
    frame = scanned("someone/tiny", out, trained)
    stopping.join()
    failed = frame[frame["reason"].notna()]
    assert 1 <= len(failed) <= len(STEPS) - 5
    complete = set(frame["step"]) - set(failed["step"])
    with local_hub(tmp_path / "served") as again:
        connect(again, tmp_path, monkeypatch)
        lines = num_measured(out)
        continued = scanned("someone/tiny", out, trained)
    assert num_measured(out) - lines == len(failed)
    assert len(complete) + len(failed) == len(STEPS)
    pandas.testing.assert_frame_equal(continued, scanned(trained / family, tmp_path / "from_folder", trained))


def num_measured(out: Path) -> int:
    """The number of results on disk."""
    path = out / "scan.jsonl"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0
