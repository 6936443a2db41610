"""How much of a series is read, and what is kept of it."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hub_client import point_to
from hub_server import local_hub
from safetensors.torch import save_file

from joma.measure.scan import samples
from joma.measure.scan.samples import Courses, Extent
from joma.measure.scan.verification import Verification, verify
from joma.saved.series import open_series

STEPS = (0, 10, 20, 30, 40)
NUM_LAYERS, WIDTH = 12, 96


def walk(dtype: torch.dtype = torch.float32) -> dict[int, dict[str, torch.Tensor]]:
    """Return weights of a dozen layers that move a little from step to step, with norms of ones at step 0."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"attention.weight": (3 * WIDTH, WIDTH), "dense.weight": (WIDTH, WIDTH), "mlp.weight": (4 * WIDTH, WIDTH)}
    state = {
        f"layers.{layer}.{name}": torch.randn(shape, generator=generator) * 0.02
        for layer in range(NUM_LAYERS)
        for name, shape in shapes.items()
    }
    state |= {f"layers.{layer}.norm.weight": torch.ones(WIDTH) for layer in range(NUM_LAYERS)}
    found = {}
    for step in STEPS:
        found[step] = {name: tensor.to(dtype, copy=True) for name, tensor in state.items()}
        for tensor in state.values():
            tensor += torch.randn(tensor.shape, generator=generator) * 0.002
    return found


def write(series: dict, folder: Path, layout: str) -> Path:
    for step, state in series.items():
        place = folder / layout.format(step=step)
        place.mkdir(parents=True)
        save_file(state, place / "model.safetensors")
    return folder


def on_a_hub(series: dict, folder: Path, monkeypatch) -> Verification:
    """Verify a series on a hub that gives hashes."""
    write(series, folder / "hub", "models/someone/walk@step{step}")
    write({"main": series[STEPS[-1]]}, folder / "hub", "models/someone/walk")
    with local_hub(folder / "hub") as running:
        point_to(running.endpoint, folder, monkeypatch)
        return verify(open_series("someone/walk"))


def replaced_at_its_ends(series: dict) -> None:
    name = "layers.3.mlp.weight"
    series[20][name] = torch.randn(series[20][name].shape, generator=torch.Generator().manual_seed(1)) * 0.02


def test_at_most_a_hundredth_is_read_from_a_hub(tmp_path, monkeypatch):
    found = on_a_hub(walk(), tmp_path, monkeypatch)
    assert found.rows == ()
    assert found.bytes_read < found.bytes_stored / 100
    assert "entries of 48 of 48 tensors were compared in 5 of 5 steps; faults elsewhere" in found.looked_at


def test_a_replaced_matrix_is_found_on_a_hub(tmp_path, monkeypatch):
    series = walk()
    replaced_at_its_ends(series)
    found = on_a_hub(series, tmp_path, monkeypatch)
    assert [(row.step, row.kind, row.severity) for row in found.rows] == [(20, "part", "error")]
    assert found.bytes_read < found.bytes_stored / 100


def test_at_most_a_tenth_is_read_of_a_large_local_series(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "WHOLE", 1 << 20)
    series = walk()
    replaced_at_its_ends(series)
    found = verify(open_series(write(series, tmp_path / "run", "step{step}")))
    assert [(row.step, row.kind, row.severity) for row in found.rows] == [(20, "part", "error")]
    assert found.bytes_read < found.bytes_stored / 10


def test_copied_tensors_are_found_from_few_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "WHOLE", 0)
    monkeypatch.setattr(samples, "SHARE", 0)
    series = walk()
    series[STEPS[-2]] |= {name: tensor for name, tensor in series[STEPS[0]].items() if "layers.3" in name}
    found = verify(open_series(write(series, tmp_path / "run", "step{step}")))
    assert [(row.step, row.kind, row.severity) for row in found.rows] == [(STEPS[-2], "part", "error")]
    assert found.looked_at.startswith("the first and last 8 entries of 48 of 48 tensors")


def test_a_tensor_that_one_step_does_not_hold_contiguously_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "WHOLE", 0)
    for step, state in walk().items():
        if step == STEPS[1]:
            state["layers.3.mlp.weight"] = state["layers.3.mlp.weight"].T.contiguous().T
        (tmp_path / f"step{step}").mkdir()
        torch.save(state, tmp_path / f"step{step}" / "pytorch_model.bin")
    found = verify(open_series(tmp_path))
    assert found.rows == ()
    assert "entries of 47 of 48 tensors were compared in 5 of 5 steps" in found.looked_at


def test_a_small_local_series_is_read_whole(tmp_path):
    found = verify(open_series(write(walk(torch.bfloat16), tmp_path / "run", "step{step}")))
    assert found.rows == ()
    assert found.looked_at == (
        "every entry of 48 of 48 tensors was compared in 5 of 5 steps; optimiser states were not"
    )
    series = open_series(tmp_path / "run")
    assert Extent.of(series, {"w": (2, 2)}, is_hashed=False).num_entries is None


def test_equal_samples_with_other_hashes_are_a_warning(tmp_path, monkeypatch):
    """The entries that were read are equal, but a hash of the whole file says that others differ."""
    series = walk()
    series[20] = {name: tensor.clone() for name, tensor in series[30].items()}
    series[20]["layers.3.mlp.weight"][WIDTH * 2] += 0.001
    found = on_a_hub(series, tmp_path, monkeypatch)
    (row,) = [row for row in found.rows if row.kind == "identical"]
    assert row.severity == "warning"
    assert "equal where they were read, but the hashes differ" in row.evidence


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_tensors_of_every_type_are_compared(dtype):
    courses = Courses(frozenset({"w"}))
    for step in range(4):
        courses.add(step, {"w": (torch.arange(8) >= step).to(dtype)})
    assert courses.changed["w"] == [1, 1, 1]
    assert len({digests["w"] for digests in courses.digests.values()}) == 4


def test_the_entry_that_leaves_its_course_and_returns_is_kept():
    courses = Courses(frozenset({"w"}))
    values = torch.linspace(0.1, 1, 300)
    for step in range(3):
        here = values + 0.01 * step
        if step == 1:
            here[17] = 40.0
        courses.add(step, {"w": here})
    detour = courses.detours["w"][1]
    assert (detour.entry, detour.here) == (17, 40.0)
    assert detour.size == pytest.approx((40 - float(values[17]) - 0.02) / 0.01, rel=0.01)
    assert dataclasses.astuple(detour)[2:] == pytest.approx((float(values[17]), 40.0, float(values[17]) + 0.02))
