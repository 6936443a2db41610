"""A scan with known courses, a failed step, and texts that would inject HTML into a page."""

import itertools
from dataclasses import replace

import numpy as np

from joma.measure.scan.results import StepResult
from joma.measure.scan.scanned import Scan
from joma.measure.scan.verification import Suspect, Verification
from joma.records import Row

HOSTILE = "<script>alert(1)</script> & 'q' \"q\""
STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
LAYERS, HEADS, GROUPS = 3, 4, 5


def level(step: int, layer: int) -> float:
    """Return the level of a layer: layer 0 falls and recovers, layer 1 falls, and layer 2 is constant."""
    fall = 2.0 * min(1.0, np.log2(step + 1) / 4)
    back = 1.5 * max(0.0, np.log2(step + 1) - 6) / 4
    return 5.0 - (fall - back, fall, 0.0)[layer]


def result(step: int, **changes) -> StepResult:
    """Return the result of a step."""
    noise = np.random.default_rng(step)
    rows = []
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        values = level(step, layer) + 0.1 * head + noise.normal(0, 0.01, GROUPS)
        groups = [None, *(f"sequences_{number}" for number in range(GROUPS))]
        rows += [
            Row(layer, head, None, "attention_entropy_nats", float(value), group)
            for group, value in zip(groups, [values.mean(), *values], strict=True)
        ]
    rows += [Row(layer, None, "mlp_lower", "stable_rank", 3 * level(step, layer)) for layer in range(LAYERS)]
    rows += [Row(layer, 0, "query", "stable_rank", 2.0) for layer in range(LAYERS)]
    changes = {"rows": tuple(rows)} | changes
    return StepResult(step, fingerprint="x", seconds=1.0, bytes_read=50, bytes_stored=100, **changes)


def made_scan() -> Scan:
    """Return a scan of three layers with twelve measured steps and a failed one."""
    failed = result(2000, rows=(), reason=f"it holds {HOSTILE}", remedy="leave it out")
    suspect = Suspect(2000, "not_finite", f"{HOSTILE} is NaN", "error", "leave it out")
    return Scan(
        f"someone/{HOSTILE}",
        {"metrics": ["attention_entropy_nats", "stable_rank"]},
        f"8 sequences of {HOSTILE}",
        (*STEPS, 2000),
        True,
        (*map(result, STEPS), failed),
        Verification("someone", (*STEPS, 2000), (suspect,), 10, 100),
        12.0,
    )


def spoilt(scan: Scan, *suspects: tuple[int, str], **changes) -> Scan:
    """Return the scan with wrong values at some steps, which its verification reports."""
    rows = tuple(Suspect(step, kind, "evidence", "error", "leave it out") for step, kind in suspects)
    wrong = {
        step: result(step, rows=tuple(row._replace(value=1.0) for row in result(step).rows)) for step, _ in suspects
    }
    results = tuple(wrong.get(found.step, found) for found in scan.results)
    return replace(scan, results=results, verification=replace(scan.verification, rows=rows), **changes)
