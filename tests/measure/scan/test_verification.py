"""Planted faults are found and named; intact series have no suspects, for several models, seeds and steps."""

import json
import shutil
from http import HTTPStatus
from pathlib import Path

import pytest
import torch
from faulty_series import (
    HUB,
    STEPS,
    TRAINER,
    as_bin,
    copy_weights,
    cut_off,
    plant_malicious,
    rename_tensor,
    set_number,
    trained,
    write_series,
)
from hub_client import point_to
from hub_server import Fault, LocalHub, commit_of, local_hub
from planted_faults import write
from safetensors.torch import save_file
from small_trainings import Training
from small_trainings import train as train_small
from tiny import tiny_recipe, tiny_tokens

from joma.errors import BadInput
from joma.measure.scan.ordering import Path as Trajectory
from joma.measure.scan.ordering import jumps, out_of_line
from joma.measure.scan.verification import Suspect, Verification, verify
from joma.saved.series import open_series
from joma.train.training import train

QKV = "gpt_neox.layers.1.attention.query_key_value.weight"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Write two series in a hub's folder and one of a training loop; read-only."""
    folder = tmp_path_factory.mktemp("series")
    write_series(folder)
    write_series(folder, TRAINER)
    write_series(folder, "opt/step{step}", family="opt")
    return folder


@pytest.fixture
def spoilt(written, tmp_path) -> Path:
    """Copy the series, so that faults can be planted."""
    return Path(shutil.copytree(written, tmp_path / "series"))


@pytest.fixture
def hub(spoilt, tmp_path, monkeypatch):
    with local_hub(spoilt) as running:
        point_to(running.endpoint, tmp_path, monkeypatch)
        yield running


def verification(*rows: tuple[int, str], steps: tuple[int, ...] = STEPS, severity: str = "error") -> Verification:
    return Verification("a series", steps, tuple(Suspect(*row, "", severity, "") for row in rows), 0, 0)


def test_errors_exclude_a_step_and_warnings_do_not():
    found = verification((0, "identical"), (0, "not_initialisation"), (20, "out_of_place"))
    assert found.condemned == {0: "identical, not_initialisation", 20: "out_of_place"}
    assert verification((4, "identical"), severity="warning").condemned == {}
    assert verification().condemned == {}


@pytest.mark.parametrize(
    ("rows", "condemned"),
    [
        ([(0, "jump")], [0]),  # the first step is reported for the jump after it
        ([(4, "jump")], [0]),
        ([(20, "jump")], [20, 40, 60]),  # as long as the part before it
        ([(40, "jump")], [40, 60]),
        ([(60, "jump")], [60]),
        ([(10, "jump"), (60, "jump")], [0, 4, 60]),
        ([(0, "identical"), (4, "jump")], [0, 4]),
        ([(0, "identical"), (20, "jump")], [0, 4, 10]),
    ],
)
def test_only_the_longest_stretch_between_jumps_is_kept(rows, condemned):
    assert sorted(verification(*rows).condemned) == condemned


def kinds(found: Verification) -> list[tuple[int, str]]:
    return [(row.step, row.kind) for row in found.rows]


def row(found: Verification, kind: str) -> Suspect:
    return next(row for row in found.rows if row.kind == kind)


def at(folder: Path, step: int, layout: str = TRAINER) -> Path:
    return folder / layout.format(step=step)


@pytest.mark.parametrize("family", ["gpt_neox", "opt"])
@pytest.mark.parametrize(
    ("seed", "steps", "rate"),
    [
        (0, STEPS, 1e-3),
        (1, STEPS, 1e-2),
        (2, (0, 1, 2, 4, 8, 16, 32, 60), 1e-3),
        (3, (10, 20, 30, 40, 50, 60), 3e-4),
        (4, (0, 60), 3e-3),
        (5, (0, 40, 50, 55, 60), 3e-3),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_intact_series_have_no_suspects(tmp_path, family, seed, steps, rate, dtype):
    for step, state in trained(family, seed, steps, rate).items():
        at(tmp_path, step).mkdir(parents=True)
        state = {name: tensor.to(dtype) for name, tensor in state.items() if "lm_head" not in name}
        save_file(state, at(tmp_path, step) / "model.safetensors")
    assert verify(open_series(tmp_path / "run")).rows == ()


def test_a_run_of_joma_has_no_suspects(tmp_path):
    train(tiny_recipe(num_steps=100, snapshot_every=20), tiny_tokens(), tmp_path / "run")
    found = verify(open_series(tmp_path / "run"))
    assert found.steps == (0, 20, 40, 60, 80, 100)
    assert found.rows == ()


def test_verifying_a_hub_series_reads_a_part_of_it(hub: LocalHub):
    seen = []
    found = verify(open_series("someone/tiny"), progress=lambda _, done, of: seen.append((done, of)))
    assert found.rows == ()
    assert found.steps == STEPS
    assert seen == [(done, len(STEPS)) for done in range(1, len(STEPS) + 1)]
    assert found.bytes_read > 0
    assert found.bytes_stored == sum(
        at(hub.folder, step, HUB).joinpath("model.safetensors").stat().st_size for step in STEPS
    )


def test_final_weights_under_step_0_are_found_by_their_hash(hub: LocalHub):
    copy_weights(at(hub.folder, 60, HUB), at(hub.folder, 0, HUB))
    found = verify(open_series("someone/tiny"))
    assert kinds(found) == [(0, "identical"), (0, "not_initialisation")]
    assert "has the weights of step 60: model.safetensors has the hash sha256:" in found.rows[0].evidence
    assert "norms are not all equal" in found.rows[1].evidence


def test_final_weights_under_step_0_are_found_without_hashes(spoilt: Path):
    copy_weights(at(spoilt, 60), at(spoilt, 0))
    found = verify(open_series(spoilt / "run"))
    assert kinds(found) == [(0, "identical"), (0, "not_initialisation")]
    assert "step 60: all 28 tensors are equal" in found.rows[0].evidence
    assert [row.severity for row in found.rows] == ["error", "error"]


def test_trained_weights_of_no_other_step_under_step_0_are_found(spoilt: Path):
    """The weights are those of no other saved step."""
    for family, folder, layout in (("gpt_neox", "run", TRAINER), ("opt", "opt", "opt/step{step}")):
        shutil.rmtree(at(spoilt, 0, layout))
        shutil.move(at(spoilt, 4, layout), at(spoilt, 0, layout))
        found = verify(open_series(spoilt / folder))
        assert kinds(found) == [(0, "not_initialisation")], family
        assert "an initialisation sets all to one value" in found.rows[0].evidence
        assert found.rows[0].severity == "warning", "nothing but its number speaks against it"


@pytest.mark.parametrize("family", ["gpt_neox", "opt"])
def test_training_that_continues_from_trained_weights_gives_a_warning(tmp_path, family):
    for step in (20, 25, 30, 40, 50, 60):
        at(tmp_path, step - 20).mkdir(parents=True)
        state = _on_disk(trained(family, steps=(0, 20, 25, 30, 40, 50, 60))[step])
        save_file(state, at(tmp_path, step - 20) / "model.safetensors")
    found = verify(open_series(tmp_path / "run"))
    assert [(row.step, row.kind, row.severity) for row in found.rows] == [(0, "not_initialisation", "warning")]
    assert "the next steps continue from it, as in fine-tuning" in found.rows[0].evidence
    assert found.condemned == {}


@pytest.mark.parametrize("late", [20, 40, 60])
@pytest.mark.parametrize("family", ["gpt_neox", "opt"])
def test_late_weights_under_step_0_are_an_error(tmp_path, family, late):
    """Both with and without the step that the weights belong to."""
    for step, state in trained(family, steps=(0, 4, 10, 20, 30, 40, 50, 60)).items():
        if step != late:
            at(tmp_path, step).mkdir(parents=True)
            there = trained(family, steps=(0, 4, 10, 20, 30, 40, 50, 60))[late] if step == 0 else state
            save_file(_on_disk(there), at(tmp_path, step) / "model.safetensors")
    found = verify(open_series(tmp_path / "run"))
    assert row(found, "not_initialisation").severity == "error"
    assert 0 in found.condemned


def test_trained_weights_of_another_model_under_step_0_are_an_error(spoilt: Path):
    save_file(_on_disk(trained(seed=7)[60]), at(spoilt, 0) / "model.safetensors")
    found = verify(open_series(spoilt / "run"))
    assert row(found, "not_initialisation").severity == "error"
    assert list(found.condemned) == [0]


def configure(place: Path, **settings) -> None:
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | settings))


@pytest.mark.parametrize(
    ("settings", "severity", "evidence"),
    [
        ({"num_attention_heads": 8}, "error", "num_attention_heads is 8 and not 4"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}, "error", "rope_parameters is "),
        ({"model_type": "gpt_neox_japanese"}, "error", "model_type is 'gpt_neox_japanese' and not 'gpt_neox'"),
        ({"layer_norm_eps": 0.1}, "error", "layer_norm_eps is 0.1 and not 1e-05"),
        ({"hidden_dropout": 0.5}, "warning", "hidden_dropout is 0.5 and not 0.0"),
        ({"bos_token_id": 3, "pad_token_id": 3}, None, ""),
        ({"torch_dtype": "float16", "transformers_version": "4.1", "_name_or_path": "x", "use_cache": False}, None, ""),
    ],
)
def test_a_step_with_another_configuration_is_found(spoilt: Path, settings, severity, evidence):
    configure(at(spoilt, 20), **settings)
    found = verify(open_series(spoilt / "run"))
    assert [(row.step, row.kind, row.severity) for row in found.rows] == [(20, "config", severity)] * bool(severity)
    assert evidence in "".join(row.evidence for row in found.rows)


def test_other_spellings_of_settings_are_equal(spoilt: Path):
    for step in (20, 40):
        config = json.loads((at(spoilt, step) / "config.json").read_text())
        theta = config.pop("rope_parameters")
        for name in ("layer_norm_eps", "hidden_act"):
            config.pop(name)
        config |= {"rotary_emb_base": theta["rope_theta"], "rotary_pct": theta["partial_rotary_factor"]}
        (at(spoilt, step) / "config.json").write_text(json.dumps(config))
    assert verify(open_series(spoilt / "run")).rows == ()


def test_a_missing_configuration_is_found(spoilt: Path):
    (at(spoilt, 40) / "config.json").unlink()
    (only,) = verify(open_series(spoilt / "run")).rows
    assert (only.step, only.kind, only.severity) == (40, "config", "error")
    assert only.evidence == "it has no config.json, but other steps have one"


def test_any_error_becomes_a_fault_of_its_step(spoilt: Path):
    (at(spoilt, 20) / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    series = open_series(spoilt / "run")
    read = series.read

    def reading(step, *words, **settings):
        if step == 40:
            raise ZeroDivisionError("of nothing")
        return read(step, *words, **settings)

    series.read = reading
    found = verify(series)
    assert kinds(found) == [(20, "unreadable"), (40, "unreadable")]
    assert found.rows[1].evidence == "it cannot be read (ZeroDivisionError: of nothing)"


def test_training_is_detected_without_norms(tmp_path):
    torch.manual_seed(0)
    for step in (0, 10):
        at(tmp_path, step).mkdir(parents=True)
        noise = {f"layers.{layer}.weight": torch.randn(40, 60) for layer in range(3)}
        shared = torch.outer(torch.randn(40), torch.randn(60))
        save_file({n: w + shared for n, w in noise.items()}, at(tmp_path, step) / "model.safetensors")
    evidence = row(verify(open_series(tmp_path / "run")), "not_initialisation").evidence
    assert "times that of independent entries (1.0 at initialisation)" in evidence


@pytest.mark.parametrize(("true", "false"), [(20, 40), (40, 20), (10, 60), (60, 10)])
def test_of_two_equal_steps_the_copy_is_reported(spoilt: Path, true, false):
    copy_weights(at(spoilt, true), at(spoilt, false))
    found = verify(open_series(spoilt / "run"))
    assert kinds(found) == [(false, "identical")]
    assert f"weights of step {true}" in found.rows[0].evidence


def test_equal_consecutive_steps_give_a_warning(tmp_path):
    for step, state in trained(steps=(0, 10, 20)).items():
        for name in (step, 1) if step == 0 else (step,):
            at(tmp_path, name).mkdir(parents=True)
            save_file({"w": state[QKV]}, at(tmp_path, name) / "model.safetensors")
    (only,) = verify(open_series(tmp_path / "run")).rows
    assert (only.step, only.kind, only.severity) == (1, "identical", "warning") or only.step == 0
    assert "a warm-up that begins with a learning rate of 0 does this too" in only.evidence


def test_steps_with_frozen_matrices_are_no_copies(tmp_path):
    """Only biases and norms were trained: every matrix equals those of the other steps."""
    series = train_small(Training(num_layers=2, width=32, steps=(0, 4, 8, 12, 16, 20), trained="bias|norm"))
    assert verify(open_series(write(series, tmp_path / "run"))).rows == ()


@pytest.mark.parametrize("steps", [(0, 4, 10), (4,)])
def test_steps_without_a_weight_are_suspect(tmp_path, steps):
    """A table of contents alone is no proof: all tensors are there, and all are empty."""
    for step in steps:
        at(tmp_path, step).mkdir(parents=True)
        torch.save({name: torch.zeros(0) for name in trained()[0]}, at(tmp_path, step) / "pytorch_model.bin")
    found = verify(open_series(tmp_path / "run"))
    assert kinds(found) == [(step, "not_compared") for step in steps]
    assert found.rows[0].evidence == "none of its weights was looked at (of 28 tensors)"
    assert found.rows[0].severity == "error"


def test_equal_steps_are_compared_in_all_tensors(spoilt: Path):
    """All matrices of the two steps are equal, but one bias is not."""
    copied = _on_disk(trained()[40])
    copied["gpt_neox.final_layer_norm.bias"] = trained()[20]["gpt_neox.final_layer_norm.bias"].clone()
    save_file(copied, at(spoilt, 20) / "model.safetensors")
    found = verify(open_series(spoilt / "run"))
    assert (20, "part") in kinds(found)
    assert "identical" not in {row.kind for row in found.rows}
    assert "27 of 28 tensors are exactly those of step 40" in row(found, "part").evidence


def test_a_jump_that_may_be_training_condemns_nothing():
    assert verification((20, "jump"), severity="warning").condemned == {}


def test_copied_safetensors_next_to_correct_bin_files_are_found(hub: LocalHub):
    """A published series had this fault: all safetensors were converted from the last step."""
    for step in STEPS:
        as_bin(at(hub.folder, step, HUB))
        shutil.copy(hub.folder / "models/someone/tiny/model.safetensors", at(hub.folder, step, HUB))
    found = verify(open_series("someone/tiny"))
    assert {step for step, kind in kinds(found) if kind == "identical"} == set(STEPS) - {60}
    assert found.rows[0].remedy == "its pytorch_model.bin differs: read that with weights='bin'"
    assert verify(open_series("someone/tiny", weights="bin")).rows == ()


def test_a_format_that_no_step_has_is_refused(written: Path):
    with pytest.raises(BadInput, match=r"no bin weights .* and all later steps fail too; .* leave out `weights`"):
        verify(open_series(written / TRAINER.split("/")[0], weights="bin"))


@pytest.mark.parametrize(("one", "other"), [(10, 20), (4, 40), (20, 60), (0, 10)])
def test_permuted_steps_are_found(spoilt: Path, one, other):
    at(spoilt, one).rename(spoilt / "aside")
    at(spoilt, other).rename(at(spoilt, one))
    (spoilt / "aside").rename(at(spoilt, other))
    found = verify(open_series(spoilt / "run"))
    assert [step for step, kind in kinds(found) if kind == "out_of_place"] == sorted((one, other))
    assert f"with steps {min(one, other)} and {max(one, other)} exchanged" in row(found, "out_of_place").evidence


@pytest.mark.parametrize("step", [4, 20, 40])
def test_a_step_of_another_training_is_found(spoilt: Path, step):
    save_file(_on_disk(trained(seed=7)[step]), at(spoilt, step) / "model.safetensors")
    found = verify(open_series(spoilt / "run"))
    assert kinds(found) == [(step, "out_of_place")]
    assert "; 0 or less on a path, 0.5 in noise); it is not nearer to any other step" in found.rows[0].evidence


@pytest.mark.parametrize(("taken", "reported"), [((0,), 0), ((60,), 60), ((20, 40, 60), 20)])
def test_a_change_of_the_training_run_is_a_jump(spoilt: Path, taken, reported):
    for step in taken:
        save_file(_on_disk(trained(seed=7)[step]), at(spoilt, step) / "model.safetensors")
    found = verify(open_series(spoilt / "run"))
    assert kinds(found) == [(reported, "jump")]
    assert "times as far as the neighbouring intervals allow" in found.rows[0].evidence


def test_damaged_steps_are_reported_and_the_others_verified(hub: LocalHub, tmp_path):
    trace = tmp_path / "it ran"
    cut_off(at(hub.folder, 4, HUB) / "model.safetensors")
    plant_malicious(as_bin(at(hub.folder, 10, HUB)), trace)
    as_bin(at(hub.folder, 20, HUB))
    rename_tensor(at(hub.folder, 40, HUB), QKV, QKV.replace("attention", "attn"))
    set_number(at(hub.folder, 60, HUB), QKV, torch.nan)
    found = verify(open_series("someone/tiny"))
    assert kinds(found) == [(4, "unreadable"), (10, "unreadable"), (40, "tensors"), (60, "not_finite")]
    evidence = [row.evidence for row in found.rows]
    assert "it was cut off" in evidence[0]
    assert "was not run" in evidence[1]
    assert f"{QKV} is missing, and there is {QKV.replace('attention', 'attn')} of the same shape instead" in evidence[2]
    assert evidence[3] == f"of the sampled weights, {QKV} is NaN or infinite in 1 of 16 entries"
    assert not trace.exists()


def test_an_unreachable_step_does_not_affect_others(hub: LocalHub):
    hub.faults = [
        Fault(commit_of(at(hub.folder, 20, HUB)), 1000),
        Fault("model.safetensors", 3, HTTPStatus.OK, sent=100),
    ]
    found = verify(open_series("someone/tiny"))
    assert kinds(found) == [(20, "unreachable")]
    assert "503" in found.rows[0].evidence


def test_other_shapes_are_errors_and_other_dtypes_warnings(spoilt: Path):
    halved = {name: tensor.half() for name, tensor in _on_disk(trained()[40]).items()}
    save_file(halved, at(spoilt, 40) / "model.safetensors")
    widened = _on_disk(trained()[60]) | {QKV: torch.zeros(96, 64)}
    save_file(widened, at(spoilt, 60) / "model.safetensors")
    found = verify(open_series(spoilt / "run"))
    assert [(row.step, row.severity) for row in found.rows if row.kind == "tensors"] == [(40, "warning"), (60, "error")]
    assert f"{QKV} has the shape (96, 64) and not (96, 32)" in found.rows[-1].evidence


def test_a_single_trained_model_has_no_suspects(spoilt: Path):
    shutil.move(at(spoilt, 60), spoilt / "model")
    assert verify(open_series(spoilt / "model")).rows == ()


@pytest.mark.parametrize("seed", range(5))
def test_walks_of_every_kind_have_no_outliers(seed):
    """For straight and random walks, both with noise, and for noise alone, the cosine stays below its bound."""
    generator = torch.Generator().manual_seed(seed)
    noise, kicks = torch.randn(2, 12, 20_000, generator=generator, dtype=torch.float64)
    walks = {
        "straight": torch.arange(12)[:, None] * kicks[0] + 50,
        "random": kicks.cumsum(0),
        "noisy": kicks.cumsum(0) + 3 * noise,
        "noise": 100 + noise,
    }
    for name, walk in walks.items():
        path = Trajectory.through(dict(enumerate(walk)))
        assert list(out_of_line(path)) == [], name
        assert list(jumps(path)) == [], name


@pytest.mark.parametrize("seed", range(5))
def test_a_swap_in_a_random_walk_is_found(seed):
    """This is the hardest case: without drift, the cosine of the two neighbours is only 1/√2."""
    kicks = torch.randn(12, 20_000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    order = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
    walk = kicks.cumsum(0)[order]
    assert [outlier.step for outlier in out_of_line(Trajectory.through(dict(enumerate(walk))))] == [4, 5]


def _on_disk(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict with the names of save_pretrained, which renames GPT-NeoX's output."""
    return {name.replace("lm_head", "embed_out"): tensor.clone() for name, tensor in state.items()}
