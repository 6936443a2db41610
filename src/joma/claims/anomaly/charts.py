"""The charts of anomaly.relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from joma.charts import Chart, Curve, Role
from joma.claims.anomaly.detectors import CONTROLS, MODELS, Detected


def tables_chart(found: Mapping[str, Sequence[Detected]], strength: Mapping[str, float]) -> Chart:
    """Return AUROC by table: both models, their controls, and the rival that can find broken relations."""
    names = sorted(found, key=lambda name: strength[name])
    x = [strength[name] for name in names]

    def curve(of: str, role: Role) -> Curve:
        means = [float(np.mean([one.areas[of] for one in found[name]])) for name in names]
        return Curve(of, x, means, role=role, group=of.split(",")[0])

    roles: dict[str, Role] = {
        **dict.fromkeys(MODELS, "measured"),
        "kNN": "context",
        **dict.fromkeys(CONTROLS, "control"),
    }
    known = found[names[0]][0].areas
    return Chart(
        "tables",
        "AUROC of planted rows by relatedness of columns",
        "From table to table, mean over seeds. Planted rows have usual values that do not go together.",
        "mutual information of the tree's edges, per column (nats)",
        "AUROC",
        tuple(curve(of, role) for of, role in roles.items() if of in known),
    )


def edges_chart(found: Mapping[str, Sequence[Detected]]) -> Chart:
    """Return how well attention separates the tree's edges from other pairs of columns, during training."""
    networks: tuple[tuple[str, Role], ...] = (("trained on the rows", "measured"), ("columns exchanged", "control"))
    curves = []
    for network, (name, role) in enumerate(networks):
        edges = [[one.edges[network] for one in by_seed] for by_seed in found.values()]
        steps = [float(step) for step in edges[0][0].steps]
        by_seed = np.mean([[one.areas for one in of_table] for of_table in edges], axis=0)
        ends = by_seed.min(0).tolist(), by_seed.max(0).tolist()
        curves.append(Curve(name, steps, by_seed.mean(0).tolist(), *ends, role=role))
    return Chart(
        "edges",
        "The tree's edges in a Transformer's attention",
        "AUROC of the Chow–Liu tree's edges among pairs of columns, by attention relative to uniform attention; mean "
        "over tables, band over seeds.",
        "optimiser steps",
        "AUROC of edges",
        tuple(curves),
    )
