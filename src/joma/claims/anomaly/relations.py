"""Claim anomaly.relations: whether a tree of the columns finds rows with broken relations, and what else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from joma.charts import Chart, Curve, Role
from joma.claims.anomaly.attention import Learned, learned, settings_of
from joma.claims.anomaly.rivals import DETECTORS, pyod_scores
from joma.claims.anomaly.tables import Case, exchanged, labelled, planted, tables
from joma.claims.workspace import Profile, Workspace
from joma.errors import NotInstalled
from joma.measure.trees.anomalies import detector_of
from joma.measure.trees.information import PairCounts, chow_liu, mutual_information
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.roc import of_one
from joma.tables.columns import Table


@dataclass(frozen=True)
class Sizes:
    """Rows of each table (both halves), steps of each Transformer, and seeds."""

    most_rows: int
    num_steps: int
    look_every: int
    num_seeds: int


SIZES = {
    Profile.QUICK: Sizes(2000, 200, 20, num_seeds=3),
    Profile.FULL: Sizes(20_000, 3000, 100, num_seeds=10),
}
TREE, ALONE, MIXED = "tree", "the same model without edges", "learned on rows with columns exchanged"
TRANSFORMER, TRANSFORMER_MIXED = "Transformer on the rows", "Transformer, columns exchanged in training"

CRITERION = Criterion(
    "AUROC of planted rows, mean over tables",
    ">=",
    0.75,
    "half of the way from chance, 0.5, where detectors are that look at columns one by one, to no error, 1",
)

Found = Mapping[str, float]
"""AUROC by detector."""


def evaluate(workspace: Workspace) -> Agreement:
    """Score planted rows of all tables with all detectors, then the usual labels."""
    sizes, seeds = SIZES[workspace.profile], workspace.seeds(SIZES[workspace.profile].num_seeds)
    named = workspace.data.get("table")
    given = tables(named)
    found: dict[str, list[Found]] = {}
    networks: list[list[tuple[Learned, Learned]]] = []
    strength: dict[str, float] = {}
    notes: list[str] = []
    for done, (name, table) in enumerate(given.items()):
        strength[name] = _strength(table)
        cases = [planted(table, sizes.most_rows, seed) for seed in seeds]
        found[name], trained = [], []
        for seed, case in zip(seeds, cases, strict=True):
            workspace.progress("tables", done + (seed / len(seeds)), len(given))
            pair = tuple(
                learned(case, settings_of(sizes.num_steps, seed), look_every=sizes.look_every, is_control=control)
                for control in (False, True)
            )
            trained.append((pair[0], pair[1]))
            of_networks = {TRANSFORMER: pair[0].auroc, TRANSFORMER_MIXED: pair[1].auroc}
            found[name].append(_aurocs(case, seed, notes) | of_networks)
        networks.append(trained)
    usual = [] if named else [{n: _aurocs(c, s, notes) for n, c in labelled(sizes.most_rows, s).items()} for s in seeds]
    means = {of: np.mean([[one[of] for one in by_seed] for by_seed in found.values()], axis=0) for of in _names(found)}
    agreement = Agreement(
        CRITERION,
        Estimate.of(means[TREE]),
        (Control(ALONE, Estimate.of(means[ALONE])), Control(MIXED, Estimate.of(means[MIXED]))),
        conclusion="",
        findings=(*_findings(found, means, strength), *_network_findings(networks), *_usual(usual)),
        charts=(_tables_chart(found, strength), _edges_chart(networks)),
        notes=(*_notes(found, strength, named), *dict.fromkeys(notes)),
    )
    return replace(agreement, conclusion=_conclusion(agreement, means, usual))


def _aurocs(case: Case, seed: int, notes: list[str]) -> dict[str, float]:
    """AUROC of the tree, its controls and, if PyOD is installed, its detectors."""
    detectors = {
        TREE: detector_of(case.train),
        ALONE: detector_of(case.train, with_edges=False),
        MIXED: detector_of(exchanged(case.train, seed)),
    }
    scores = {name: detector.surprise(case.test) for name, detector in detectors.items()}
    try:
        scores |= pyod_scores(case, seed)
    except NotInstalled as error:
        notes.append(f"PyOD's detectors are left out: {error.remedy}.")
    return {name: of_one(values, case.is_anomaly) for name, values in scores.items()}


def _strength(table: Table) -> float:
    """Mutual information of the tree's edges, per column, in nats."""
    coding = detector_of(table).coding
    information = mutual_information(PairCounts(coding.codes(table), coding.sizes).counts(), coding.sizes)
    return float(information[tuple(chow_liu(information).T)].sum() / len(information))


def _names(found: Mapping[str, Sequence[Found]]) -> list[str]:
    return list(next(iter(found.values()))[0])


def _findings(
    found: Mapping[str, Sequence[Found]], means: Mapping[str, np.ndarray], strength: Mapping[str, float]
) -> list[Finding]:
    others = [name for name in means if name not in (TREE, ALONE, MIXED)]
    rows = [Finding(f"AUROC, {name}", Estimate.of(means[name]), "mean over tables") for name in others]
    for name, by_seed in found.items():
        comment = f"information of its edges per column: {strength[name]:.2f} nats"
        rows.append(Finding(f"AUROC of the tree, {name}", Estimate.of([one[TREE] for one in by_seed]), comment))
    return rows


def _network_findings(networks: Sequence[Sequence[tuple[Learned, Learned]]]) -> list[Finding]:
    def mean(read: Callable[[Learned], float], control: int) -> Estimate:
        return Estimate.of(np.mean([[read(pair[control]) for pair in by_seed] for by_seed in networks], axis=0))

    rows = []
    for control, name in enumerate(("", ", columns exchanged in training")):
        rows += [
            Finding(
                f"AUROC of the tree's edges by the Transformer's attention{name}",
                mean(lambda one: one.edges[-1], control),
                "among pairs of columns, mean over tables; chance is 0.5",
            ),
            Finding(
                f"rank correlation of attention's growth with mutual information{name}",
                mean(lambda one: one.order, control),
                "over pairs of columns, when the loss has made half of its fall",
            ),
        ]
    before = mean(lambda one: one.edges[0], 0)
    rows.insert(1, Finding("AUROC of the tree's edges by attention before training", before))
    return rows


def _usual(usual: Sequence[Mapping[str, Found]]) -> list[Finding]:
    rows = []
    for name in usual[0] if usual else ():
        of_tree = Estimate.of([found[name][TREE] for found in usual], why_equal="the same rows")
        means = {
            of: np.mean([found[name][of] for found in usual]) for of in (ALONE, *DETECTORS) if of in usual[0][name]
        }
        rest = ", ".join(f"{of} {value:.2f}" for of, value in means.items())
        rows.append(Finding(f"AUROC of the tree, usual labels: {name}", of_tree, f"others: {rest}"))
    return rows


def _tables_chart(found: Mapping[str, Sequence[Found]], strength: Mapping[str, float]) -> Chart:
    names = sorted(found, key=lambda name: strength[name])
    x = [strength[name] for name in names]

    def curve(of: str, role: Role) -> Curve:
        return Curve(of, x, [float(np.mean([one[of] for one in found[name]])) for name in names], role=role)

    roles: dict[str, Role] = {TREE: "measured", TRANSFORMER: "measured", "kNN": "context", ALONE: "control"}
    roles[MIXED] = "control"
    return Chart(
        "tables",
        "AUROC of planted rows by relatedness of columns",
        "From table to table, mean over seeds. Planted rows have usual values that do not go together.",
        "mutual information of the tree's edges, per column (nats)",
        "AUROC",
        tuple(curve(of, role) for of, role in roles.items() if of in _names(found)),
    )


def _edges_chart(networks: Sequence[Sequence[tuple[Learned, Learned]]]) -> Chart:
    steps = [float(step) for step in networks[0][0][0].steps]
    curves = []
    roles: tuple[tuple[str, Role], ...] = (("trained on the rows", "measured"), ("columns exchanged", "control"))
    for control, (name, role) in enumerate(roles):
        by_seed = np.mean([[pair[control].edges for pair in of_table] for of_table in networks], axis=0)
        curves.append(
            Curve(name, steps, by_seed.mean(0).tolist(), by_seed.min(0).tolist(), by_seed.max(0).tolist(), role=role)
        )
    return Chart(
        "edges",
        "The tree's edges in a Transformer's attention",
        "AUROC of the Chow–Liu tree's edges among pairs of columns, by attention relative to uniform attention; mean "
        "over tables, band over seeds.",
        "step",
        "AUROC of edges",
        tuple(curves),
    )


def _notes(found: Mapping[str, Sequence[Found]], strength: Mapping[str, float], named: str | None) -> list[str]:
    order = ", ".join(f"{name} ({value:.2f})" for name, value in sorted(strength.items(), key=lambda item: item[1]))
    rows = [f"Tables, with the information of their edges per column in nats: {order}."]
    if named is None:
        rows.append(
            "The tables were chosen by their subject before the experiment, except concrete, on which it was tried "
            "out first."
        )
    return [*rows, "PyOD's detectors and the Transformer have one setting for all tables; none was tuned."]


def _conclusion(agreement: Agreement, means: Mapping[str, np.ndarray], usual: Sequence[Mapping[str, Found]]) -> str:
    verdict = {Verdict.HOLDS: "finds", Verdict.FAILS: "does not find"}.get(agreement.verdict, "may find")
    text = f"A tree of the columns {verdict} rows whose values do not go together: AUROC {means[TREE].mean():.2f}, "
    text += f"without edges {means[ALONE].mean():.2f}"
    rivals = {name: float(values.mean()) for name, values in means.items() if name in (*DETECTORS, TRANSFORMER)}
    best = max(rivals, key=lambda name: rivals[name])
    text += f"; the best other detector, {best}, has {rivals[best]:.2f}."
    if usual and all(name in usual[0][next(iter(usual[0]))] for name in DETECTORS):
        of = {name: np.mean([[one[name] for one in found.values()] for found in usual]) for name in (TREE, *DETECTORS)}
        top = max(DETECTORS, key=lambda name: of[name])
        text += f" On the usual labels the tree has {of[TREE]:.2f} on average, {top} {of[top]:.2f}."
    return text
