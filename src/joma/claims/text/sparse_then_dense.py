"""Claim text.sparse_then_dense: whether attention becomes sparse and then dense while a network learns text."""

from __future__ import annotations

import numpy as np
import torch

from joma.charts import Chart, Curve, Mark
from joma.claims.text.networks import Variant, frequencies_learned, moved, movement, study, trained
from joma.claims.workspace import Profile, Workspace
from joma.measure.curves.course import Course
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.dynamics import paper_figure4, solve
from joma.train.courses import course_of, probe_groups
from joma.train.run import Run

ENTROPY = "attention_entropy_nats"
NUM_ORDERS = 50

CRITERION = Criterion(
    "smaller of fall and rise of the mean attention entropy, nats",
    ">=",
    0.05,
    "2 % of the entropy of uniform attention over these keys; smaller changes may be noise of the probes",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Train on text and on its words in random order, and compare how far attention entropy falls and rises."""
    full, shuffled = trained(workspace, [Variant(), Variant(words="shuffled", num_more_seeds=1)])
    layers = range(full[0].recipe.decoder.num_layers)
    onset = frequencies_learned(workspace, full)
    entropy = course_of(full, ENTROPY, layers[-1]).between(onset)
    found = entropy.rebounds()
    of_shuffled = course_of(shuffled, ENTROPY, layers[-1]).between(onset)
    measured = Estimate.of((entry.size for entry in found), "nats")
    in_random_order = [entropy.in_random_order(repetition).rebounds() for repetition in range(NUM_ORDERS)]
    by_chance = np.array([[entry.size for entry in found] for found in in_random_order])
    reached = Estimate((float((by_chance.mean(1) >= measured.mean).mean()),), "share", "constant")
    findings = (
        *entropy.movements(unit="nats"),
        *(_spread(full, layers[-1], kind, onset) for kind in ("positions", "sequences")),
        Finding("step from which more than word frequencies is known", Estimate((float(onset),), "steps", "constant")),
        Finding("random orders that reach the measured value", reached),
    )
    return Agreement(
        CRITERION,
        measured,
        (
            Control(f"probes in random order (mean of {NUM_ORDERS})", Estimate.of(by_chance.mean(0), "nats")),
            Control(
                "shuffled words",
                Estimate.of((entry.size for entry in of_shuffled.rebounds()), "nats"),
            ),
        ),
        conclusion=_conclusion(findings),
        findings=findings,
        charts=(
            _lead_chart(full, shuffled, entropy, of_shuffled),
            *_charts(full, shuffled, entropy),
        ),
        notes=_notes(workspace),
    )


def _spread(runs: list[Run], layer: int, kind: str, onset: int) -> Finding:
    """The deciding number for each group of positions or of probe sequences."""
    groups = probe_groups(runs[0], ENTROPY, kind)
    sizes = [
        float(np.mean([entry.size for entry in course_of(runs, ENTROPY, layer, group).between(onset).rebounds()]))
        for group in groups
    ]
    names = ", ".join(map(_group_name, groups))
    return Finding(f"deciding number by groups of {kind}", Estimate.of(sizes, "nats"), names)


def _group_name(group: str) -> str:
    kind, *numbers = group.split("_")  # positions_1_9
    return f"{kind} {'–'.join(numbers)}"


def _lead_chart(full: list[Run], shuffled: list[Run], entropy: Course, of_shuffled: Course) -> Chart:
    """The fall and the rise that decide, with the levels from which they are read, of the control too."""
    layers = range(full[0].recipe.decoder.num_layers)
    name = (lambda layer: f"real text, layer {layer}") if len(layers) > 1 else (lambda layer: "real text")
    return Chart(
        "entropy",
        "Attention entropy on held-out text while the network learns",
        f"From the step on at which word frequencies are learned, attention entropy {movement(entropy, ' nats')} on "
        f"real text; on words in random order it {movement(of_shuffled, ' nats')}. The dashed lines show where this is "
        "read: their level parts are means over several probes at the start, at the lowest part and at the end. What "
        "comes before is another claim (text.first_dip). Bands: one standard deviation over seeds.",
        "optimiser steps",
        "mean attention entropy (nats)",
        (
            *(course_of(full, ENTROPY, layer).curve(name(layer)) for layer in layers),
            course_of(shuffled, ENTROPY, layers[-1]).curve("shuffled words", "control"),
            entropy.read_levels("read from real text", name(layers[-1])),
            of_shuffled.read_levels("read from shuffled words", "shuffled words"),
        ),
        (Mark("x", float(entropy.steps[0]), "word frequencies learned"), Mark("x", _bottom(entropy), "sparsest")),
    )


def _bottom(entropy: Course) -> float:
    return float(np.mean([entropy.steps[entry.bottom_idx] for entry in entropy.rebounds()]))


def _charts(full: list[Run], shuffled: list[Run], entropy: Course) -> tuple[Chart, ...]:
    layers = range(full[0].recipe.decoder.num_layers)
    whole = course_of(full, ENTROPY, layers[-1])
    return (
        Chart(
            "theory",
            "The same, with the theory's curve",
            "The theory's curve is the exact solution for attention with ten components, stretched in time and scaled "
            "to the same start: only its shape is a prediction.",
            "optimiser steps",
            "mean attention entropy (nats)",
            (whole.curve("real text"), _theory(whole, _bottom(entropy))),
        ),
        Chart(
            "normalized",
            "The same, relative to uniform attention over the keys each query sees",
            "By groups of query positions: not only queries with short contexts show the dip.",
            "optimiser steps",
            "entropy / ln(visible keys)",
            tuple(
                course_of(full, "attention_entropy_normalized", layers[-1], group).curve(_group_name(group))
                for group in probe_groups(full[0], "attention_entropy_normalized", "positions")
            ),
        ),
        Chart(
            "loss",
            "Validation loss",
            "The network on real text learns more than word frequencies; the one on shuffled words cannot.",
            "optimiser steps",
            "loss (nats per token)",
            (
                course_of(full, "val_loss_nats", None).curve("real text"),
                course_of(shuffled, "val_loss_nats", None).curve("shuffled words", "control"),
            ),
        ),
    )


def _theory(entropy: Course, bottom: float) -> Curve:
    """The exact curve of Figure 4, stretched in time to have its minimum at ``bottom``, scaled to the same start."""
    times = np.geomspace(1e-3, 3e3, 2000)
    predicted = solve(paper_figure4(), torch.from_numpy(times)).entropy.numpy()
    steps = np.asarray(entropy.steps[1:], dtype=float)
    at = np.interp(steps * times[predicted.argmin()] / bottom, times, predicted)
    scaled = at * entropy.values[:, 0].mean() / predicted[0]
    return Curve("theory, shape only", tuple(steps), tuple(scaled), role="predicted")


def _notes(workspace: Workspace) -> tuple[str, ...]:
    sizes, tokens = study(workspace), workspace.tokens()
    notes = [f"Text: {tokens.description}.", f"{sizes.num_steps:,} steps of Adam at {sizes.learning_rate:g}."]
    if workspace.profile is Profile.QUICK:
        notes.append("Smaller than the paper: fewer words, fewer steps, a larger learning rate (1e-4 there).")
    return tuple(notes)


def _conclusion(findings: tuple[Finding, ...]) -> str:
    means = {finding.name: finding.estimate.mean for finding in findings}
    return (
        "Once the network predicts better than word frequencies, attention entropy "
        f"{moved(means['fall'], means['rise after it'], ' nats')}, with its minimum near step "
        f"{means['step of the bottom']:.0f}. What attention does before is another claim (text.first_dip), and so is "
        "whether the MLP's nonlinearity makes it rise (text.mechanism)."
    )
