"""Steps measured in this process, in several and with Ray: bit-identical results, and failures stay separate."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from faulty_series import cut_off
from scanned_series import plan_for, write_scannable

from joma.errors import BadInput
from joma.measure.scan.engines import measured
from joma.measure.scan.results import FILE, ScanStore

SCAN = """
import sys
from pathlib import Path
from scanned_series import plan_for
from joma.measure.scan.engines import measured
from joma.measure.scan.results import ScanStore
if __name__ == "__main__":
    plan = plan_for(Path(sys.argv[1]))
    store = ScanStore(Path(sys.argv[2]), plan.settings)
    left = [step for step in plan.series.steps if step not in store.results]
    for result in measured(plan, left, num_workers=int(sys.argv[3])):
        store.append(result)
        print(result.step, flush=True)
"""


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_scannable(folder)
    cut_off(folder / "step20" / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def here(series):
    plan = plan_for(series)
    return {result.step: result for result in measured(plan, plan.series.steps, num_workers=1)}


def assert_same(found, here):
    assert found.keys() == here.keys()
    for step, result in found.items():
        assert (result.rows, result.reason) == (here[step].rows, here[step].reason)


def test_a_failed_step_does_not_affect_others(here):
    assert [step for step, result in here.items() if not result.ok] == [20]
    assert here[20].reason
    assert all(result.rows for step, result in here.items() if step != 20)


def test_quick_steps_are_measured_in_this_process_by_default(series, here):
    plan, reported = plan_for(series), []
    found = measured(plan, plan.series.steps, progress=lambda _, done, total: reported.append(done / total))
    assert_same({result.step: result for result in found}, here)
    assert reported == sorted(reported)
    assert reported[-1] == 1.0


@pytest.mark.parametrize("engine", [pytest.param(name, marks=pytest.mark.slow) for name in ("processes", "ray")])
def test_engines_give_bit_identical_results(series, here, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra ray is not installed")
    plan = plan_for(series)
    found = measured(plan, plan.series.steps, engine=engine, num_workers=2)
    assert_same({result.step: result for result in found}, here)


def test_zero_workers_are_refused(series):
    plan = plan_for(series)
    with pytest.raises(BadInput, match="workers is 0"):
        list(measured(plan, plan.series.steps, num_workers=0))


def start(series, folder, num_workers):
    script = folder.with_name("go_on.py")
    script.write_text(SCAN)
    words = [sys.executable, str(script), str(series), str(folder), str(num_workers)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_and_continued_scan_gives_equal_results(series, here, tmp_path):
    process = start(series, tmp_path, 1)
    assert process.stdout.readline().strip() == "0"
    assert process.stdout.readline().strip() == "4"
    process.send_signal(signal.SIGKILL)
    process.wait()
    plan = plan_for(series)
    kept = ScanStore(tmp_path, plan.settings).results
    assert 2 <= len(kept) < len(here)
    with (tmp_path / FILE).open("ab") as file:  # as if the process was killed while it wrote a line
        file.write(json.dumps({"step": 10, "rows": {}})[:-4].encode())
    store = ScanStore(tmp_path, plan.settings)
    assert store.results == kept
    for result in measured(plan, [step for step in plan.series.steps if step not in kept], num_workers=1):
        store.append(result)
    assert_same(ScanStore(tmp_path, plan.settings).results, here)


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(series, tmp_path):
    process = start(series, tmp_path, 2)
    process.stdout.readline()
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    pids = [int(pid) for pid in children.stdout.split()]
    assert pids
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]
