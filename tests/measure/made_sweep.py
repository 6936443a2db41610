"""Tables of made-up sweeps, whose falls and rises are known."""

import numpy as np
import pandas

from joma.measure.curves.points import points_of

STEPS = np.arange(0, 300, 10)


def run_rows(run: str, rate: float, *, dip: float, seed: int = 0, status: str = "finished", last: int = 300, loss=None):
    """A run whose entropy falls by ``dip`` to step 100 and rises by half of that, in two layers with two heads."""
    steps = STEPS[last > STEPS]
    entropy = np.interp(steps, [0, 100, 300], [2.0, 2.0 - dip, 2.0 - dip / 2])
    losses = np.interp(steps, [0, 300], [7.0, 3.0]) if loss is None else np.full(len(steps), loss)
    rows = [
        (run, step, layer, head, "attention_entropy_nats", value + 0.1 * layer + 0.01 * head)
        for layer in range(2)
        for head in range(2)
        for step, value in zip(steps, entropy, strict=True)
    ]
    rows += [(run, step, layer, None, "stable_rank", 10 - step / 100) for layer in range(2) for step in steps]
    rows += [(run, step, None, None, "val_loss_nats", value) for step, value in zip(steps, losses, strict=True)]
    frame = pandas.DataFrame(rows, columns=["run", "step", "layer", "head", "metric", "value"])
    frame["layer"] = frame["layer"].astype("Int32")
    reason = "NaN" if status == "failed" else None
    return frame.assign(learning_rate=rate, num_layers=2, seed=seed, status=status, reason=reason)


def points(*runs: pandas.DataFrame, unigram: float = 6.5):
    frame = pandas.concat(runs)
    return points_of(frame, ["learning_rate", "num_layers"], dict.fromkeys(frame["run"], unigram))
