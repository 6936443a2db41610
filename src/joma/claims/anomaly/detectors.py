"""The detectors of anomaly.relations: tree and Transformer, each with its two controls, and PyOD's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from joma.claims.anomaly.attention import Course, Edges, edges_in, row_surprise, settings_of
from joma.claims.anomaly.rivals import pyod_scores
from joma.claims.anomaly.tables import Case, exchanged
from joma.errors import NotInstalled
from joma.measure.trees.anomalies import detector_of
from joma.roc import of_one

TREE, TRANSFORMER = "tree", "Transformer"
MODELS = (TREE, TRANSFORMER)
WITHOUT_EDGES = (TREE_ALONE, TRANSFORMER_ALONE) = tuple(f"{model}, without edges" for model in MODELS)
"""Each model with its columns independent; the Transformer then sees no other column: its loss is under marginals."""

MIXED = (TREE_MIXED, TRANSFORMER_MIXED) = tuple(f"{model}, columns exchanged in training" for model in MODELS)
CONTROLS = (*WITHOUT_EDGES, *MIXED)


@dataclass(frozen=True)
class Detected:
    """What the detectors find among the rows of a case.

    Args:
        areas: AUROC by detector; PyOD's only if it is installed.
        edges: the tree's edges in the attention of the Transformer, and in that of its control with columns exchanged.
        note: how to get what is missing.
    """

    areas: Mapping[str, float]
    edges: tuple[Edges, Edges]
    note: str


def detected(case: Case, seed: int, num_steps: int, look_every: int) -> Detected:
    """Score the rows of a case with all detectors.

    Args:
        case: the rows.
        seed: of the networks, and of what is exchanged.
        num_steps: of the training of each Transformer.
        look_every: steps between measurements of attention.
    """
    settings, note = settings_of(num_steps, seed), ""
    courses = Course(look_every), Course(look_every)
    scores = {
        TREE: detector_of(case.train).surprise(case.test),
        TREE_ALONE: detector_of(case.train, with_edges=False).surprise(case.test),
        TREE_MIXED: detector_of(exchanged(case.train, seed)).surprise(case.test),
        TRANSFORMER: row_surprise(case, settings, course=courses[0]),
        TRANSFORMER_ALONE: row_surprise(case, replace(settings, sees_columns=False)),
        TRANSFORMER_MIXED: row_surprise(case, settings, is_mixed=True, course=courses[1]),
    }
    try:
        scores |= pyod_scores(case, seed)
    except NotInstalled as error:
        note = f"PyOD's detectors are left out: {error.remedy}."
    areas = {name: of_one(values, case.is_anomaly) for name, values in scores.items()}
    return Detected(areas, (edges_in(courses[0], case), edges_in(courses[1], case)), note)
