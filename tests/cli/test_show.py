"""`joma show` and `joma advise` from outside: what they print and write, exit statuses, the served page."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pandas
import pytest

from joma.cli import main
from linking import explorer_of

STEPS = np.arange(0, 3001, 50)


def write_table(path, values):
    rows = [
        ("mine", s, layer, 0, "attention_entropy_nats", v)
        for layer in (0, 1)
        for s, v in zip(STEPS, values, strict=True)
    ]
    rows += [("mine", s, None, None, "val_loss_nats", 3 + 7 * np.exp(-s / 600)) for s in STEPS]
    pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"]).to_csv(path, index=False)
    return path


@pytest.fixture
def sound(tmp_path):
    return write_table(tmp_path / "sound.csv", np.interp(STEPS, [0, 600, 1500, 3000], [4.0, 4.0, 1.5, 2.5]))


@pytest.fixture
def broken(tmp_path):
    return write_table(tmp_path / "broken.csv", 4 * np.exp(-STEPS / 300))


def test_show_writes_the_page_and_ends_with_what_happened(sound, tmp_path, capsys):
    assert main(["show", str(sound), "--out", str(tmp_path / "page")]) == 0
    out = capsys.readouterr().out
    assert "mine: Attention became sparser, from 4 to 1.5 nats at step 1,500, and denser again" in out
    assert f"Written to {tmp_path / 'page'}: show.html, explorer.html." in out
    assert (tmp_path / "page" / "show.html").read_text().startswith("<!doctype html>")
    assert f"Shown: mine in {sound}." in explorer_of(tmp_path / "page" / "show.html").read_text()


def test_show_without_out_writes_next_to_the_measurements(sound, capsys):
    assert main(["show", str(sound)]) == 0
    assert (sound.parent / "show.html").exists()
    assert "show.html" in capsys.readouterr().out


def test_pictures_are_written_on_request(sound, tmp_path, capsys):
    assert main(["show", str(sound), "--out", str(tmp_path / "page"), "--png"]) == 0
    names = {path.name for path in (tmp_path / "page" / "figures").iterdir()}
    assert {"loss.png", "loss.svg", "attention_entropy_nats.png", "attention_entropy_nats_steps_layers.png"} <= names


def test_advise_exits_with_1_for_a_problem_and_0_without(sound, broken, capsys):
    assert main(["advise", str(sound)]) == 0
    assert "collapsed" not in capsys.readouterr().out
    assert main(["advise", str(broken), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["remarks"]["mine"][0]["rule"] == "collapse"
    assert {row["phase"] for row in record["phases"] if row["layer"] is not None} >= {"collapsed"}


def test_advise_on_many_runs_prints_one_line_for_each(sound, capsys):
    table = pandas.read_csv(sound)
    several = pandas.concat(table.assign(run=f"run-{number}") for number in range(8))
    several.to_csv(sound, index=False)
    assert main(["advise", str(sound)]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"what happened|open|cannot be seen", out)) == 8
    assert "The most important remark on each run" in out
    assert main(["advise", str(sound), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["remarks"]["run-0"]) > 1


def test_interrupt_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("joma.cli.import_module", interrupted)
    assert main(["advise", "nowhere"]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("joma: interrupted")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["advise"], "PATH is missing"),
        (["show", "nowhere"], "neither a folder nor a file"),
        (["show", "sound.csv", "--follow", "--png"], "--png has no effect with --follow"),
        (["show", "sound.csv", "--port", "0"], "--port is '0'"),
        (["show", "sound.csv", "--port", "8000"], "--port has no effect without --follow"),
        (["show", "sound.csv", "--follow", "--port", "80000"], "--port 80000 cannot be used"),
        (["show", "sound.csv", "--sentence", "\udcff the cat"], "not valid UTF-8"),
    ],
)
def test_wrong_use_exits_with_2_and_one_line(words, message, sound, monkeypatch, capsys):
    monkeypatch.chdir(sound.parent)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_follow_serves_on_loopback_and_shows_new_measurements(sound, broken, capsys):
    command = [sys.executable, "-m", "joma", "show", str(sound), "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", served.stdout.readline())
        assert address is not None
        try:
            page = urllib.request.urlopen(address[0], timeout=60).read().decode()
            assert "denser again" in page
            assert 'http-equiv="refresh"' in page
            assert f"Shown: mine in {sound}." in urllib.request.urlopen(f"{address[0]}explorer.html").read().decode()
            sound.write_bytes(broken.read_bytes())
            assert "collapsed" in urllib.request.urlopen(address[0], timeout=60).read().decode()
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address[0] + "etc/passwd", timeout=60)
            elsewhere = urllib.request.Request(address[0], headers={"Host": "example.org"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(elsewhere, timeout=60)
            port = address[0].rpartition(":")[2].rstrip("/")
            assert main(["show", str(sound), "--follow", "--port", port]) == 2
            assert "cannot be used" in capsys.readouterr().err
        finally:
            served.send_signal(signal.SIGINT)
        assert served.wait(timeout=30) == 0
