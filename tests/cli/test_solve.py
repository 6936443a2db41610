"""`joma solve` from outside: its numbers against an integrator, what it writes, and messages on bad input."""

import json
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.integrate import solve_ivp

from joma.cli import main
from tolerances import TOLERANCES

CLOSE = TOLERANCES["closed_form.integrator"].bound
MU, DELTA = [3.0, 2.0, 1.0, 0.5], [-1.0, 2.0, 1.7]


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON")


def solved(capsys, *words):
    assert main(["solve", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=refuse_constant)


def attention(v, gain):
    weights = np.exp(gain * v**2 - (gain * v**2).max())
    return weights / weights.sum()


def entropy(v, gain):
    p = attention(v, gain)
    return -(p * np.log(p)).sum()


def integrated(force, times, v0, gain, kind):
    """v at the times, by LSODA on the equation itself."""

    def velocity(_, v):
        return force(v) * (attention(v, gain) if kind == "softmax" else np.exp(gain * v**2))

    seen = solve_ivp(velocity, (0, times[-1]), v0, t_eval=times, method="LSODA", rtol=1e-12, atol=1e-13)
    return seen.y.T


@pytest.mark.parametrize("kind", ["softmax", "exp"])
@pytest.mark.parametrize(("words", "gain"), [([], 0.5), (["--gain", "0.3"], 0.3), (["--temperature", "1.5"], 2 / 9)])
def test_nonlinear_numbers_are_those_of_an_integrator(kind, words, gain, capsys):
    times = np.array([0, 0.5, 1, 2, 4])
    record = solved(capsys, "--mu", "3,2,1,0.5", "--t", "0,0.5,1,2,4", "--v0", "0.1", "--attention", kind, *words)
    v = integrated(lambda v: np.array(MU) - v, times, [0.1] * 4, gain, kind)
    assert np.abs(np.array(record["v"]) - v).max() < CLOSE
    assert np.abs(np.array(record["entropy_nats"]) - [entropy(row, gain) for row in v]).max() < CLOSE
    assert record["gain"] == pytest.approx(gain)
    assert record["status"]["name"] == "ok"


@pytest.mark.parametrize("kind", ["softmax", "exp"])
def test_linear_numbers_are_those_of_an_integrator(kind, capsys):
    times = np.linspace(0, 0.6, 4)
    record = solved(capsys, "--delta", "-1,2,1.7", "--t", "0:0.6:0.2", "--v0", "0.1,0,-0.2", "--attention", kind)
    assert record["t"] == pytest.approx(list(times))
    v = integrated(lambda v: np.array(DELTA), times, [0.1, 0, -0.2], 0.5, kind)
    assert np.abs(np.array(record["v"]) - v).max() < CLOSE


@pytest.mark.parametrize("kind", ["softmax", "exp"])
def test_attention_is_sparsest_where_the_integrated_entropy_is_lowest(kind, capsys):
    found = solved(capsys, "--mu", "3,2,1,0.5", "--attention", kind)["sparsest"]
    times = found["t"] * np.linspace(0, 1.1, 1101)
    v = integrated(lambda v: np.array(MU) - v, times, [0.0] * 4, 0.5, kind)
    entropies = [entropy(row, 0.5) for row in v]
    assert np.argmin(entropies) == 1000
    assert abs(entropies[1000] - found["entropy_nats"]) < CLOSE
    assert np.abs(v[1000] - found["v"]).max() < CLOSE
    assert found["status"] == "reached"


def test_where_entropy_has_no_lowest_point_inside_the_status_says_so(capsys):
    assert solved(capsys, "--mu", "2,2")["sparsest"]["status"] == "at the start"
    late = solved(capsys, "--mu", "2,0")["sparsest"]
    assert late["t"] is None
    assert late["status"] == "only in the limit of late times"
    assert late["v"] == pytest.approx([2, 0])


def test_past_a_blow_up_there_are_nulls_and_a_status_with_the_time(capsys):
    record = solved(capsys, "--delta", "-1,2,1.7,0", "--t", "0,1,2", "--attention", "exp")
    first = math.sqrt(math.pi / 2) / 2
    assert record["blow_up_times"] == pytest.approx([2 * first, first, 2 * first / 1.7, None])
    assert record["winners"] == [1]
    assert record["v"][1][1] is None
    assert record["v"][2] == [None, None, None, 0.0]
    assert record["entropy_nats"][1:] == [None, None]
    assert record["status"]["name"] == "blown_up"
    assert f"{first:.6f}"[:7] in record["status"]["cause"]


def test_with_softmax_attention_nothing_blows_up_and_the_winner_is_the_same(capsys):
    record = solved(capsys, "--delta", "1,2,2", "--t", "0,1000")
    assert record["blow_up_times"] == [None, None, None]
    assert record["winners"] == [1, 2]
    assert record["status"]["name"] == "ok"
    assert record["entropy_nats"][1] == pytest.approx(math.log(2))


def test_the_table_marks_the_sparsest_time_and_says_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["solve", "--mu", "3,2,1,0.5", "--t", "0,4,20"]) == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert ["sparsest" in row for row in rows] == [False, False, True, False]
    assert "9.05055" in rows[2]
    assert "Attention is sparsest at t = 9.05055" in shown


def test_a_narrow_terminal_shows_fewer_components_and_says_so(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["solve", "--mu", "1:4:0.375", "--t", "1"]) == 0
    shown = capsys.readouterr().out
    assert "v[1]" in shown
    assert "v[2]" not in shown
    assert "7 more components" in shown


def test_the_table_says_when_the_dynamics_end(capsys):
    assert main(["solve", "--delta", "1,2", "--t", "0,1", "--attention", "exp"]) == 0
    shown = capsys.readouterr().out
    assert "∞" in shown
    assert "v[1] at t = 0.626657" in shown
    assert "these dynamics do not exist" in shown


@pytest.mark.parametrize("words", [["--mu=-1,2"], ["--mu", "-1,2"], ["--mu", "[-1, 2]"]])
def test_negative_numbers_need_no_equals_sign(words, capsys):
    assert solved(capsys, *words, "--t", "1")["mu"] == [-1, 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "3 2 # the large ones\n1\n0.5\n"),
        ("b.csv", "mu\n3\n2\n1\n0.5\n"),
        ("c.csv", "3,2,1,0.5\n"),
        ("d.json", "[3, 2, 1, 0.5]"),
        ("e.yaml", "- 3\n- 2\n- 1\n- 5e-1\n"),
    ],
)
def test_numbers_come_from_files(name, content, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    assert solved(capsys, "--mu", str(tmp_path / name))["mu"] == MU


def test_numbers_come_from_arrays_but_never_from_pickles(tmp_path, capsys):
    np.save(tmp_path / "mu.npy", np.array(MU, dtype=np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert solved(capsys, "--mu", str(tmp_path / "mu.npy"))["mu"] == MU
    assert main(["solve", "--mu", str(tmp_path / "objects.npy")]) == 2


def test_options_come_from_a_configuration(tmp_path, capsys):
    (tmp_path / "solve.yaml").write_text("mu: [3, 2]\nt: 0:1:0.5\nv0: 0.1\n")
    record = solved(capsys, "--config", str(tmp_path / "solve.yaml"), "--t", "2")
    assert (record["mu"], record["t"], record["v0"]) == ([3, 2], [2], [0.1, 0.1])


@pytest.mark.parametrize(
    "words",
    [
        ["--mu", "3,2,1"],
        ["--mu", "1:4:0.075"],
        ["--delta", "-1,2", "--attention", "exp", "--t", "0:2:0.5"],
        ["--mu", "2", "--t", "0"],
    ],
)
def test_pictures_are_drawn_with_every_curve(words, tmp_path, capsys):
    assert main(["solve", *words, "--out", str(tmp_path / "new")]) == 0
    pixels = imread(tmp_path / "new" / "solution.png")
    assert (pixels[..., :3].min(-1) < 0.9).mean() > 0.01
    titles = ElementTree.parse(tmp_path / "new" / "solution.svg").iter("{http://purl.org/dc/elements/1.1/}title")
    assert "MLP" in next(titles).text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--mu is missing, and so is --delta"),
        (["--mu", "1", "--delta", "1"], "--mu is given, and so is --delta"),
        (["--mu", "1,nan"], "--mu is '1,nan', with nan among them"),
        (["--mu", "1,inf"], "--mu is '1,inf', with inf among them"),
        (["--mu", ""], "--mu is ''"),
        (["--mu", "[]"], "--mu is '[]', with none"),
        (["--mu", "3,x"], "could not convert string to float: 'x'"),
        (["--mu", "no/such.csv"], "No such file"),
        (["--mu", "1:4"], "'1:4'"),
        (["--mu", "1", "--t", "0:1:0"], "a range has"),
        (["--mu", "1", "--t", "0,2,1"], "--t is [0.0, 2.0, 1.0]"),
        (["--mu", "1", "--t", "0,0"], "--t is [0.0, 0.0]"),
        (["--mu", "1", "--t", "-1,2"], "--t is [-1.0, 2.0]"),
        (["--mu", "1,2", "--v0", "1,2,3"], "--v0 is 3 numbers; expected one number, or 2 as in --mu"),
        (["--mu", "1", "--temperature", "0"], "--temperature is 0"),
        (
            ["--mu", "1", "--temperature", "5e-324"],
            "expected a number from 1e-80 to 1e80",
        ),
        (["--mu", "1", "--temperature=1e-200"], "--temperature is 1e-200"),
        (["--mu", "1", "--temperature=1e200"], "--temperature is 1e+200"),
        (["--mu", "1.7e308"], "--mu is as large as 1.7e+308"),
        (["--mu", "0", "--gain", "1.7e308"], "--gain is above 8e307"),
        (["--mu", "1", "--v0=-1.7e308"], "--v0 is as large as 1.7e+308"),
        (["--delta", "1.7e308", "--gain", "1e300"], "--delta is as large as 1.7e+308"),
        (["--delta", "1", "--v0", "1e307", "--attention", "exp"], "--v0 is as large as 1e+307"),
        (["--mu", "1", "--gain", "-2"], "--gain is -2"),
        (["--mu", "1", "--gain", "1", "--temperature", "1"], "both --gain and --temperature"),
        (["--mu", "1", "--attention", "softmx"], "did you mean softmax?"),
        (["--mu", "1", "--out", __file__], "is a file"),
        (["--mu", "1e6"], "at most 1000"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["solve", *words]) == 2
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert message in line
    assert "expected" in line
    assert not out
    assert not list(tmp_path.iterdir())


def test_numbers_beyond_float64_are_refused_and_not_a_hole_in_the_table(capsys):
    assert main(["solve", "--delta", "1e200,1", "--t", "0,1", "--json"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "--delta is as large as 1e+200" in err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", ""),
        ("two.csv", "1,2\n3,4\n"),
        ("nested.json", "[[1, 2]]"),
        ("half.json", "[1, 2"),
        ("truth.json", "[true]"),
        ("map.yaml", "mu: 3\n"),
        ("broken.yaml", "[1,"),
        ("fake.npy", "not an array"),
        ("odd.dat", "1"),
    ],
)
def test_files_without_one_list_of_numbers_are_refused_in_one_line(name, content, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    assert main(["solve", "--mu", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--mu" in line


def test_the_page_shows_what_its_commands_print(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = (Path(__file__).parents[2] / "docs" / "solve.md").read_text(encoding="utf-8")
    shown = re.findall(r"```\n\$ joma (.*)\n((?:.*\n)+?)```", page)
    assert len(shown) == 3
    for words, printed in shown:
        assert main(words.split()) == 0
        assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == printed.splitlines()


def test_standard_output_is_json_alone_and_the_sentence_goes_to_standard_error():
    words = ["solve", "--mu", "3,2,1,0.5", "--t", "0,0.5,1,2,4", "--json"]
    done = subprocess.run([sys.executable, "-m", "joma", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("Attention is sparsest at t = 9.05055: ")
    assert json.loads(done.stdout, parse_constant=refuse_constant)["t"] == [0, 0.5, 1, 2, 4]


BOMB = "a: &a [1]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xa7\x00\xff" * 300, "is no text"),
        (b"mu: &a [*a]", "refers to another part of the text"),
        (BOMB.encode(), "refers to another part of the text"),
        (b"[" * 5000 + b"]" * 5000, "nesting depth"),
        (b"a: " + b"{a: " * 500 + b"}" * 500, "levels of lists and mappings"),
        (b"mu: !!python/object/apply:os.getcwd []", "the tag"),
        (b"[1, 2]", "Unexpected config"),
        (b"3", "Unexpected config"),
        (b"", "Unexpected config"),
    ],
)
def test_a_file_of_options_that_is_none_is_one_line(tmp_path, capsys, content, said):
    path = tmp_path / "options.yaml"
    path.write_bytes(content)
    assert main(["solve", "--config", str(path)]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    "given", ["&a [*a]", "!!binary aGVsbG8=", "!!set {1}", "[" * 3000, "*a", "[[1]]", "\x1b[31m", "\ud800"]
)
def test_numbers_that_are_none_are_one_line(capsys, given):
    assert main(["solve", "--mu", given, "--t", "0,1"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("joma: --mu is ")
    assert shown.count("\n") == 1
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.json", "[" * 100_000 + "]" * 100_000),
        ("t.json", "[NaN]"),
        ("t.yaml", "[" * 5000 + "]" * 5000),
        ("t.yaml", "&a [*a]"),
        ("t.yaml", BOMB),
    ],
)
def test_a_file_of_numbers_without_bounds_is_one_line(tmp_path, capsys, name, content):
    (tmp_path / name).write_text(content)
    assert main(["solve", "--mu", str(tmp_path / name), "--t", "0,1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
