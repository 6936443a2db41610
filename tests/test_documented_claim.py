"""docs/your-own-claim.md leads from an empty folder to a verdict as written, and so does examples/."""

import json
import os
import re
import shutil
import subprocess
import sysconfig
import venv
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

import joma
from conclusions import faults

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "entropy_bound"
TEXT = (ROOT / "docs" / "your-own-claim.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
COMMANDS = re.search(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1].splitlines()


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Return the variables of a new virtual environment with this one's packages, this joma, and no network."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "outside.pth").write_text(f"{Path(joma.__file__).parents[1]}\n{sysconfig.get_path('purelib')}\n")
    python = folder / "bin" / "python"
    for name, line in {
        "joma": f'{python} -m joma "$@"',
        "pip": f'{python} -m pip "$@" --quiet --no-index --no-deps --no-build-isolation',
    }.items():
        script = folder / "bin" / name
        script.write_text(f"#!/bin/sh\nexec {line}\n")
        script.chmod(0o755)
    return os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "COLUMNS": "200"}


def follow(commands: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """Run shell commands in a folder, and return the output of each."""
    printed = []
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    return printed


def evaluated(folder: Path) -> dict:
    """Return the only claim in the results of a run."""
    (claim,) = json.loads((folder / "joma-out" / "claims.json").read_text(encoding="utf-8"))["claims"]
    return claim


def test_the_page_shows_the_example_s_files(tracked):
    folder = f"{EXAMPLE.relative_to(ROOT).as_posix()}/"
    assert {*FILES, "README.md"} == {name.removeprefix(folder) for name in tracked if name.startswith(folder)}
    assert {name: (EXAMPLE / name).read_text(encoding="utf-8") for name in FILES} == FILES


@pytest.mark.slow
def test_the_steps_of_the_page_end_with_a_verdict(tmp_path, environment):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    _, listed, _ = follow(COMMANDS, tmp_path, environment)
    assert "brought by entropy-bound 0.1.0" in listed
    claim = evaluated(tmp_path)
    assert claim["id"] == "entropy.bound"
    assert claim["verdict"] == "holds"
    assert claim["origin"] == "entropy-bound 0.1.0"
    assert claim["measured"]["num"] == 5
    assert not faults(claim["conclusion"])
    page = (tmp_path / "joma-out" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"Brought by.{1,40}entropy-bound 0\.1\.0", page)


def test_the_example_runs_as_its_readme_says(tmp_path, environment):
    folder = shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    commands = re.search(r"```sh\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    install, run = commands.splitlines()
    follow([install, f"{run} --seeds 3"], folder, environment)
    assert evaluated(folder)["verdict"] == "holds"


@pytest.fixture(scope="module")
def heads():
    """Import the module of the example from its folder."""
    spec = spec_from_file_location("entropy_bound_heads", EXAMPLE / "src" / "entropy_bound" / "heads.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("num_keys", [2, 3, 10, 100])
@pytest.mark.parametrize("norm", [0.01, 1.0, 3.0, 10.0])
def test_a_spike_attains_the_bound_and_nothing_is_below(heads, num_keys, norm, tolerance):
    def entropy(logits):
        centred = logits.double() - logits.double().mean(-1, keepdim=True)
        shares = (norm * centred / centred.norm(dim=-1, keepdim=True)).softmax(-1)
        return torch.special.entr(shares).sum(-1)

    least = heads.bound(torch.tensor(norm, dtype=torch.float64), num_keys)
    bound = tolerance("closed_form.sums")
    assert entropy(torch.eye(num_keys)[0]).item() == pytest.approx(least.item(), abs=bound)
    generator = torch.Generator().manual_seed(num_keys)
    drawn = torch.randn(2000, num_keys, generator=generator) ** torch.arange(1, 6)[:, None, None]
    assert entropy(drawn).min() >= least - bound
