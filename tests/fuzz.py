"""Send inputs of every kind to everything that a user can reach, and count what becomes of them.

    python tests/fuzz.py [--inputs 10000] [--seed 0] [--kinds arguments words files kept weights hub]

Each input must end, within 20 seconds and 1 GB, in an answer or in an error of joma's; an answer to finite numbers may
hold NaN only together with a status. Inputs run in processes of their own, so that a hang or a crash costs one input.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parent
LONGEST_S, MOST_BYTES = 20.0, 10**9
SHARES = {"arguments": 0.5, "words": 0.15, "files": 0.13, "weights": 0.1, "kept": 0.06, "hub": 0.06}
"""What share of all inputs each kind gets."""


class Outcome(NamedTuple):
    """What became of an input: ``answered``, ``refused`` or ``fault``, and why it is a fault."""

    result: str
    why: str = ""


class TooLong(BaseException):
    """An input took longer than it may."""


def judged(case: Any) -> Outcome:
    """Run a case and say what became of it."""
    from joma.errors import BadInput, RunFailed

    before, said = _peak_bytes(), io.StringIO()
    try:
        with _limited(LONGEST_S), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _quiet():
            answer = case.run()
        outcome = _of_answer(case, answer, said.getvalue())
    except (BadInput, RunFailed) as error:
        outcome = Outcome("refused", str(error))
    except TooLong:
        outcome = Outcome("fault", f"endless: more than {LONGEST_S:g} s")
    except (Exception, SystemExit) as error:  # noqa: BLE001 (what is counted here)
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" in {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
        outcome = Outcome("fault", f"traceback: {type(error).__name__}: {error}"[:200] + where)
    if _peak_bytes() - before > MOST_BYTES:
        return Outcome("fault", f"memory: {(_peak_bytes() - before) / 1e9:.1f} GB more")
    return outcome


def _of_answer(case: Any, answer: Any, said: str) -> Outcome:
    if isinstance(answer, int) and case.kind.split(":")[0] in ("words", "files", "kept"):
        if answer:
            lines = [line for line in said.splitlines() if line.startswith("joma: ")]
            return Outcome("refused", lines[-1]) if lines else Outcome("fault", f"status {answer} without a reason")
        return (
            Outcome("fault", "NaN in what is printed")
            if re.search(r"\bnan\b", said, re.IGNORECASE)
            else Outcome("answered")
        )
    if case.is_finite and any(map(_is_nan, _numbers_in(answer))):
        return Outcome("fault", "NaN from finite numbers")
    return Outcome("answered")


def _numbers_in(answer: Any) -> Iterator[Any]:
    import numpy as np
    import torch

    if isinstance(answer, torch.Tensor | np.ndarray | float):
        yield answer
    elif isinstance(answer, tuple | list):
        for part in answer:
            yield from _numbers_in(part)
    elif dataclasses.is_dataclass(answer) and getattr(getattr(answer, "status", None), "ok", True):
        yield from _numbers_in(list(vars(answer).values()))


def _is_nan(number: Any) -> bool:
    import torch

    return math.isnan(number) if isinstance(number, float) else bool(torch.as_tensor(number).isnan().any())


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # pytest may have set one
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Run in an empty folder, without warnings."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(here)


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def strategies() -> dict[str, Any]:
    """Return the strategy of each kind."""
    import fuzz_arguments
    import fuzz_hub
    import fuzz_kinds

    found = {name: getattr(fuzz_kinds, name)() for name in ("words", "files", "kept", "weights")}
    return found | {"arguments": fuzz_arguments.arguments(), "hub": fuzz_hub.answers()}


def each(kind: str, num: int, seed: int, found: Callable[[Any, Outcome], None], before: Callable[[Any], None]) -> None:
    """Draw ``num`` cases of a kind, the same for the same seed; call ``before`` and, with its outcome, ``found``."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    @seeded(seed)
    @settings(
        max_examples=num, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(strategies()[kind])
    def run(case: Any) -> None:
        before(case)
        found(case, judged(case))

    run()


def _work(kind: str, num: int, seed: int) -> None:
    """Draw and judge cases in this process, and print a line before and after each."""
    sys.path[:0] = [str(ROOT), *(str(ROOT / name) for name in ("golden", "measure", "train"))]
    real = os.fdopen(os.dup(1), "w", buffering=1)

    def say(case: Any, outcome: Outcome | None = None) -> None:
        result, why = outcome or ("started", "")
        print(json.dumps([case.kind, case.text[:600], result, why]), file=real)

    each(kind, num, seed, say, say)


def fuzzed(kind: str, num: int, seed: int) -> list[tuple[str, str, str, str]]:
    """Judge ``num`` cases of a kind in processes of their own; return kind, text, result and reason of each."""
    found: list[tuple[str, str, str, str]] = []
    path = os.pathsep.join([str(ROOT.parent / "src"), os.environ.get("PYTHONPATH", "")])
    while len(found) < num:
        command = [sys.executable, __file__, "--work", kind, "--inputs", str(num - len(found)), "--seed", str(seed)]
        worker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"PYTHONPATH": path}
        )
        started, got = None, 0
        signal.signal(signal.SIGALRM, lambda *_: worker.kill())  # noqa: B023 (this round's)
        for line in worker.stdout or ():
            kind_of, text, result, why = json.loads(line)
            if result == "started":
                started = (kind_of, text)
                signal.alarm(int(4 * LONGEST_S))  # for a hang that a signal in the process itself does not end
                continue
            started, got = None, got + 1
            found.append((kind_of, text, result, why))
        signal.alarm(0)
        worker.wait()
        if started is not None:
            found.append((*started, "fault", f"crash: exit status {worker.returncode}"))
        elif not got:
            raise RuntimeError(f"{' '.join(command)} found nothing: exit status {worker.returncode}")
        seed += 1_000_003
    return found


def main() -> int:
    """Run, print counts by kind and every different fault, and return 1 if there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--work", choices=SHARES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        _work(options.work, options.inputs, options.seed)
        return 0
    total, faults = Counter(), Counter()
    example: dict[tuple[str, str], str] = {}
    for kind in options.kinds:
        share = SHARES[kind] / sum(SHARES[name] for name in options.kinds)
        began = time.monotonic()
        found = fuzzed(kind, max(1, round(share * options.inputs)), options.seed)
        counts = Counter(result for *_, result, _ in found)
        total += counts
        print(f"{kind:10}" + "".join(f"{counts[name]:7,} {name}" for name in ("answered", "refused", "fault")), end="")
        print(f"  in {time.monotonic() - began:,.0f} s", flush=True)
        for kind_of, text, result, why in found:
            if result == "fault":
                key = (kind_of, re.sub(r"0x[0-9a-f]+|\d+", "#", why)[:90])
                faults[key] += 1
                example.setdefault(key, f"{why}\n      {text[:300]}")
    counts = ", ".join(f"{total[name]:,} {name}" for name in ("answered", "refused", "fault"))
    print(f"{sum(total.values()):,} inputs: {counts}")
    for key, count in faults.most_common():
        print(f"{count:5} {key[0]}: {example[key]}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
