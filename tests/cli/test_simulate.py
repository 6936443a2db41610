"""`joma simulate` from outside: its numbers against SciPy on equations written out here, its files, its refusals."""

import json
import math

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.integrate import solve_ivp

from joma.cli import main
from joma.cli import simulate as cli
from joma.problem.activations import ACTIVATIONS
from joma.problem.classes import classification_data, gaussian_classes
from joma.problem.losses import LOSSES
from joma.report import progress
from joma.simulate.descent import OPTIMIZERS
from joma.simulate.flow import METHODS
from joma.simulate.trajectory import load_trajectory
from tolerances import TOLERANCES

SOLVER = TOLERANCES["simulation.solver"].bound
SMALL = ["--tokens", "6", "--hidden", "3", "--samples", "8", "--classes", "3", "--t", "0:2:1"]


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON")


def simulated(capsys, *words, status=0):
    assert main(["simulate", *words, "--json"]) == status
    return json.loads(capsys.readouterr().out, parse_constant=refuse_constant)


class WrittenOut:
    """Gradient descent's direction for exp attention, tanh and cross-entropy, by hand; one query, unit embeddings."""

    def __init__(self, start, temperature):
        x, y = classification_data(gaussian_classes(3, 6, width=1.0), 8, 8, [0])
        self.x, self.y, self.temperature = x[0, 0].numpy(), y[0, 0].numpy(), temperature
        self.shapes = [(7, 3), (6,), (3, 3)]
        parts = (start.weights[0], start.attention_logits[0, 0], start.upper[0])
        self.start = np.concatenate([part.numpy().ravel() for part in parts])

    def parts(self, state):
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(state, ends[:-1]), self.shapes, strict=True)]

    def direction(self, _, state):
        weights, logits, upper = self.parts(state)
        b = self.x * np.exp(logits / self.temperature)
        f = np.hstack([b, np.ones((8, 1))])
        h = np.tanh(f @ weights)
        exp = np.exp(h @ upper)
        error = self.y - exp / exp.sum(1, keepdims=True)
        back = error @ upper.T * (1 - h**2)
        pull = (back @ weights.T)[:, :6] * b / self.temperature
        return np.concatenate([(f.T @ back / 8).ravel(), pull.mean(0), (h.T @ error / 8).ravel()])

    def drift(self, states):
        """Largest |drift| of z − Σv²/2T over tokens, and largest |motion| of z, at each time."""
        z = np.array([self.parts(state)[1] for state in states])
        squares = np.array([(self.parts(state)[0][:6] ** 2).sum(1) for state in states])
        law = z - squares / (2 * self.temperature)
        return np.abs(law - law[0]).max(1), np.abs(z - z[0]).max(1)


def test_the_flow_is_that_of_an_integrator_on_the_written_out_equations(tmp_path, capsys):
    words = ["--attention", "exp", "--temperature", "1.5", "--out", str(tmp_path)]
    record = simulated(capsys, *SMALL, *words)
    seen = load_trajectory(tmp_path / "trajectory.safetensors").complete()
    written = WrittenOut(seen.parameters(0), 1.5)
    states = solve_ivp(
        written.direction, (0, 2), written.start, t_eval=[0, 1, 2], method="LSODA", rtol=1e-12, atol=1e-13
    ).y.T
    for index, state in enumerate(states):
        weights, logits, upper = written.parts(state)
        assert np.abs(seen.weights[index, 0].numpy() - weights).max() < SOLVER
        assert np.abs(seen.attention_logits[index, 0, 0].numpy() - logits).max() < SOLVER
        assert np.abs(seen.upper[index, 0].numpy() - upper).max() < SOLVER
    _, motion = written.drift(states)
    assert np.abs(np.array(record["motion"])[:, 0] - motion).max() < SOLVER
    assert motion[-1] > TOLERANCES["simulation.moved"].bound
    assert max(value for (value,) in record["relative_drift"]) < SOLVER / motion[-1]


def test_descent_takes_the_written_out_steps_and_its_drift_is_reported(tmp_path, capsys):
    words = [*SMALL[:-2], "--attention", "exp", "--optimizer", "sgd", "--learning-rate", "0.5", "--num-steps", "4"]
    record = simulated(capsys, *words, "--out", str(tmp_path))
    written = WrittenOut(load_trajectory(tmp_path / "trajectory.safetensors").parameters(0), 1.0)
    states = [written.start]
    for _ in range(4):
        states.append(states[-1] + 0.5 * written.direction(0, states[-1]))
    drift, motion = written.drift(states)
    assert record["step"] == [0, 1, 2, 3, 4]
    assert np.abs(np.array(record["drift"])[:, 0] - drift).max() < TOLERANCES["simulation.sums"].bound
    relative = drift / motion.max()
    assert (
        np.abs(np.array(record["relative_drift"])[:, 0] - relative).max() < TOLERANCES["simulation.accumulated"].bound
    )


@pytest.mark.parametrize("attention", ["linear", "exp"])
def test_theorem_1_holds_along_the_flow_and_not_with_coherent_embeddings(attention, capsys):
    exact = simulated(capsys, *SMALL, "--attention", attention, "--seeds", "2")
    assert np.array(exact["relative_drift"]).max() < SOLVER / np.array(exact["motion"])[-1].min()
    assert np.shape(exact["relative_drift"]) == (3, 2)
    coherent = simulated(capsys, *SMALL, "--attention", attention, "--seeds", "2", "--coherence", "0.2")
    assert coherent["coherence"] == pytest.approx([0.2, 0.2])
    assert np.array(coherent["relative_drift"])[-1].min() > TOLERANCES["simulation.moved"].bound


@pytest.mark.parametrize("queries", ["1", "2"])
def test_with_softmax_attention_the_exact_identity_is_followed(queries, capsys):
    record = simulated(capsys, *SMALL, "--queries", queries)
    key = "relative_drift_of_the_exact_identity" if queries == "1" else "relative_drift"
    assert np.array(record[key]).max() < SOLVER / record["motion"][-1][0]
    if queries == "1":
        assert record["relative_drift"][-1][0] > TOLERANCES["simulation.moved"].bound


def test_adam_breaks_the_invariant_that_small_plain_steps_keep(capsys):
    words = [*SMALL[:-2], "--attention", "exp", "--num-steps", "50"]
    adam = simulated(capsys, *words, "--optimizer", "adam", "--learning-rate", "0.01")
    plain = simulated(capsys, *words, "--optimizer", "sgd", "--learning-rate", "0.01")
    assert adam["relative_drift"][-1][0] > 10 * plain["relative_drift"][-1][0]


FLOW, DESCENT = ["--attention", "exp"], ["--optimizer", "sgd", "--learning-rate", "0.1", "--num-steps", "3"]


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (FLOW, ["--attention", "linear"]),
        (FLOW, ["--temperature", "2"]),
        (FLOW, ["--activation", "gelu"]),
        (FLOW, ["--loss", "squared_error"]),
        (FLOW, ["--fixed-upper"]),
        (FLOW, ["--coherence", "0.1"]),
        (FLOW, ["--seeds", "2"]),
        (FLOW, ["--tokens", "7"]),
        (FLOW, ["--classes", "4"]),
        (FLOW, ["--hidden", "4"]),
        (FLOW, ["--samples", "9"]),
        (FLOW, ["--length", "9"]),
        (FLOW, ["--queries", "2"]),
        (FLOW, ["--scale", "0.2"]),
        (FLOW, ["--logit", "0.5"]),
        (FLOW, ["--t", "0,1"]),
        (FLOW, ["--method", "RK45"]),
        (FLOW, ["--tolerance", "1e-6"]),
        (FLOW, ["--runge-kutta", "0.5"]),
        (DESCENT, ["--optimizer", "momentum"]),
        (DESCENT, ["--learning-rate", "0.2"]),
        (DESCENT, ["--num-steps", "4"]),
        (DESCENT, ["--batch-size", "2"]),
    ],
    ids=lambda words: " ".join(words[:1]) if len(words) < 3 else "",
)
def test_every_option_has_an_effect(base, words, capsys):
    common = SMALL if base is FLOW else SMALL[:-2]
    records = [simulated(capsys, *common, *base), simulated(capsys, *common, *base, *words)]
    for record in records:
        record.pop("settings")
    assert records[0] != records[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attention", "softmx"], "did you mean softmax?"),
        (["--activation", "tahn"], "did you mean tanh?"),
        (["--loss", "crossentropy"], "did you mean cross_entropy?"),
        (["--temperature", "0"], "--temperature is 0"),
        (["--attention", "linear", "--temperature", "2"], "no temperature"),
        (["--coherence", "-0.1"], "--coherence is -0.1"),
        (["--tokens", "2", "--coherence", "0.99"], "random vectors reach"),
        (["--scale", "0"], "--scale is 0"),
        (["--method", "LSODE"], "did you mean LSODA?"),
        (["--tolerance", "1"], "--tolerance is 1"),
        (["--runge-kutta", "0"], "`step` is 0"),
        (["--runge-kutta", "0.1", "--method", "RK45"], "--method has no effect"),
        (["--t", "1"], "at least two"),
        (["--t", "0,2,1"], "--t is"),
        (["--learning-rate", "0.1"], "no effect without --optimizer"),
        (["--batch-size", "4"], "--batch-size has no effect"),
        (["--optimizer", "sgd", "--learning-rate", "0.1"], "--num-steps with it"),
        (["--optimizer", "sgd", "--num-steps", "5"], "--learning-rate with it"),
        (["--optimizer", "sdg", "--learning-rate", "0.1", "--num-steps", "5"], "did you mean sgd?"),
        (["--optimizer", "sgd", "--learning-rate", "-1", "--num-steps", "5"], "--learning-rate is -1"),
        ([*DESCENT, "--t", "0,1"], "no effect with --optimizer"),
        (["--optimizer", "adam", "--learning-rate", "0.1", "--num-steps", "5", "--queries", "2"], "over 2 queries"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(words, message, tmp_path, capsys):
    assert main(["simulate", *words, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert message in line
    assert "expected" in line
    assert not out
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["simulate", *SMALL, "--out", str(tmp_path / "thesis.tex")]) == 2
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert "is a file" in capsys.readouterr().err


def test_the_folder_holds_trajectory_record_and_pictures_that_show_everything(tmp_path, capsys):
    out = tmp_path / "my results" / "a"
    record = simulated(capsys, *SMALL, "--out", str(out))
    assert json.loads((out / "simulation.json").read_text()) == record
    names = ["drift.png", "drift.svg", "logits.png", "logits.svg", "simulation.json", "trajectory.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name in ("drift.png", "logits.png"):
        pixels = imread(out / name)[..., :3].min(-1)
        assert (pixels < 0.9).mean() > 0.01
        assert (pixels[:, -4:] == 1).all(), f"{name}: the legend is cut off"


def test_a_flow_that_reaches_infinity_keeps_what_was_there_and_exits_with_1(tmp_path, capsys):
    words = ["--loss", "constant_gradient", "--activation", "identity", "--attention", "exp", "--t", "0:400:10"]
    assert main(["simulate", *SMALL[:-2], *words, "--json", "--out", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    record = json.loads(out, parse_constant=refuse_constant)
    line = err.strip().splitlines()[-1]  # progress comes before it where the machine is slow
    assert record["status"]["name"] == "stopped"
    assert f"{len(record['t'])} snapshots up to {record['t'][-1]:g} are kept" in line
    assert "--t" in line
    assert load_trajectory(tmp_path / "trajectory.safetensors").status.name == "stopped"


def test_numbers_too_large_for_squares_are_null_in_json_and_left_out_of_pictures(tmp_path, capsys):
    words = ["--loss", "squared_error", "--activation", "identity", "--attention", "linear", "--out", str(tmp_path)]
    descent = ["--optimizer", "sgd", "--learning-rate", "1e8", "--num-steps", "30"]
    record = simulated(capsys, *SMALL[:-2], *words, *descent, status=1)
    assert record["status"]["name"] == "diverged"
    assert record["loss"][-1] == [None]
    assert record["relative_drift"][0] == [None]
    assert (tmp_path / "logits.png").stat().st_size > 1000


def test_the_table_shows_start_and_end(capsys):
    assert main(["simulate", *SMALL, "--attention", "exp"]) == 0
    shown = capsys.readouterr().out
    rows = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert rows == ["0", "1", "2"]
    assert "z − Σv²/2T = const" in shown


def test_what_takes_long_says_how_far_it_is(monkeypatch, capsys):
    assert main(["simulate", *SMALL]) == 0
    assert not capsys.readouterr().err
    monkeypatch.setattr(progress, "SLOW_SECONDS", 0.0)
    assert main(["simulate", *SMALL]) == 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("gradient flow: ")
    assert "s left" in line


def test_choices_are_those_of_the_library():
    assert list(ACTIVATIONS) == cli.ACTIVATIONS
    assert list(LOSSES) == cli.LOSSES
    assert list(METHODS) == cli.METHODS
    assert list(OPTIMIZERS) == cli.OPTIMIZERS
