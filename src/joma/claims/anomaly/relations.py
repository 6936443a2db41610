"""Claim anomaly.relations: whether models of a table's rows find those with broken relations, and what else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from joma.claims.anomaly.attention import Edges
from joma.claims.anomaly.charts import edges_chart, tables_chart
from joma.claims.anomaly.detectors import CONTROLS, MODELS, TRANSFORMER, TREE, WITHOUT_EDGES, Detected, detected
from joma.claims.anomaly.rivals import DETECTORS
from joma.claims.anomaly.tables import Case, labelled, planted, tables
from joma.claims.workspace import Profile, Workspace
from joma.errors import RunFailed
from joma.measure.trees.anomalies import detector_of
from joma.measure.trees.information import PairCounts, chow_liu, mutual_information
from joma.progress import Progress
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.tables.columns import Table
from joma.threads import threads
from joma.workers import Lost, completed


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

CRITERION = Criterion(
    "AUROC of planted rows, mean over tables",
    ">=",
    0.75,
    "half of the way from chance, 0.5, where detectors are that look at columns one by one, to no error, 1",
)

ByTable = Mapping[str, Sequence[Detected]]
"""What the detectors find in each table, seed by seed."""


def evaluate(workspace: Workspace) -> Agreement:
    """Score planted rows of all tables with all detectors, then rows with the usual labels."""
    sizes = SIZES[workspace.profile]
    seeds, named = workspace.seeds(sizes.num_seeds), workspace.data.get("table")
    given = tables(named)
    found, usual = _found(
        workspace,
        {name: [planted(table, sizes.most_rows, seed) for seed in seeds] for name, table in given.items()},
        {} if named else labelled(sizes.most_rows, seeds),
    )
    strength = {name: _strength(table) for name, table in given.items()}
    means, usual_means = _means(found), _means(usual)
    agreement = Agreement(
        CRITERION,
        Estimate.of(np.minimum(*(means[model] for model in MODELS))),
        tuple(Control(name, Estimate.of(means[name])) for name in CONTROLS),
        conclusion="",
        findings=(
            *_mean_findings("planted rows", means),
            *_mean_findings("usual labels", usual_means),
            *_table_findings("planted rows", found),
            *_table_findings("usual labels", usual),
            *_attention_findings(found),
        ),
        charts=(tables_chart(found, strength), edges_chart(found)),
        notes=_notes(found, strength, named),
    )
    return replace(agreement, conclusion=_conclusion(agreement, means, usual_means))


def _found(workspace: Workspace, *groups: Mapping[str, Sequence[Case]]) -> list[ByTable]:
    """Score all cases of all groups, each in one of the worker processes."""
    sizes = SIZES[workspace.profile]
    cases = [(seed, case) for group in groups for by_seed in group.values() for seed, case in enumerate(by_seed)]
    do = partial(_detected, sizes.num_steps, sizes.look_every)
    outcomes = dict(
        completed(do, cases, "scoring rows", num_workers=workspace.num_workers, progress=workspace.progress)
    )
    results = iter([_kept(outcomes[place]) for place in range(len(cases))])
    return [{name: [next(results) for _ in by_seed] for name, by_seed in group.items()} for group in groups]


def _detected(num_steps: int, look_every: int, of: tuple[int, Case], progress: Progress) -> Detected:
    progress("scoring rows", 0, 1)
    with threads(1):
        return detected(of[1], of[0], num_steps, look_every)


def _kept(outcome: Detected | Lost) -> Detected:
    if isinstance(outcome, Lost):
        raise RunFailed(outcome.reason, kept="nothing of this claim", remedy="run it again, with --workers 1")
    return outcome


def _strength(table: Table) -> float:
    """Mutual information of the tree's edges, per column, in nats."""
    coding = detector_of(table).coding
    information = mutual_information(PairCounts(coding.codes(table), coding.sizes).counts(), coding.sizes)
    return float(information[tuple(chow_liu(information).T)].sum() / len(information))


def _means(found: ByTable) -> Mapping[str, np.ndarray]:
    """AUROC of each detector by seed, mean over tables."""
    names = list(next(iter(found.values()))[0].areas) if found else []
    return {name: np.mean([[one.areas[name] for one in of] for of in found.values()], axis=0) for name in names}


def _mean_findings(rows: str, means: Mapping[str, np.ndarray]) -> list[Finding]:
    return [Finding(f"AUROC of {rows}, {name}", Estimate.of(of), "mean over tables") for name, of in means.items()]


def _table_findings(rows: str, found: ByTable) -> list[Finding]:
    findings = []
    for name, by_seed in found.items():
        others = {of: np.mean([one.areas[of] for one in by_seed]) for of in by_seed[0].areas if of != TREE}
        rest = "; ".join(f"{of} {value:.2f}" for of, value in others.items())
        estimate = Estimate.of((one.areas[TREE] for one in by_seed), why_equal="the same rows")
        findings.append(Finding(f"AUROC of {rows} by the tree, {name}", estimate, f"others: {rest}"))
    return findings


def _attention_findings(found: ByTable) -> list[Finding]:
    def mean(read: Callable[[Edges], float], network: int) -> Estimate:
        return Estimate.of(np.mean([[read(one.edges[network]) for one in of] for of in found.values()], axis=0))

    rows = [Finding("AUROC of the tree's edges by attention before training", mean(lambda one: one.areas[0], 0))]
    for network, name in enumerate(("", ", columns exchanged in training")):
        rows += [
            Finding(
                f"AUROC of the tree's edges by the Transformer's attention{name}",
                mean(lambda one: one.areas[-1], network),
                "among pairs of columns, mean over tables; chance is 0.5",
            ),
            Finding(
                f"rank correlation of attention's growth with mutual information{name}",
                mean(lambda one: one.order, network),
                "over pairs of columns, when the loss has made half of its fall",
            ),
        ]
    return rows


def _notes(found: ByTable, strength: Mapping[str, float], named: str | None) -> tuple[str, ...]:
    order = ", ".join(f"{name} ({value:.2f})" for name, value in sorted(strength.items(), key=lambda item: item[1]))
    rows = [f"Tables, with the information of their edges per column in nats: {order}."]
    if named is None:
        rows.append(
            "The tables were chosen by their subject before the experiment, except concrete, on which it was tried "
            "out first."
        )
    rows.append("PyOD's detectors and the Transformer have one setting for all tables; none was tuned.")
    missing = {one.note: None for by_seed in found.values() for one in by_seed if one.note}
    return (*rows, *missing)


def _conclusion(agreement: Agreement, means: Mapping[str, np.ndarray], usual: Mapping[str, np.ndarray]) -> str:
    verdict = {Verdict.HOLDS: "find", Verdict.FAILS: "do not both find"}.get(agreement.verdict, "may find")
    text = f"A tree of the columns and a Transformer {verdict} rows whose values do not go together: AUROC "
    text += f"{means[TREE].mean():.2f} and {means[TRANSFORMER].mean():.2f}, "
    alone = " and ".join(f"{means[name].mean():.2f}" for name in WITHOUT_EDGES)
    text += f"without edges {alone}"
    if best := _best(means):
        text += f"; the best of PyOD's detectors, {best}, has {means[best].mean():.2f}"
    text += "."
    if top := _best(usual):
        tree, transformer, rival = (usual[name].mean() for name in (TREE, TRANSFORMER, top))
        comparison = "no better than" if max(tree, transformer) <= rival else "next to"
        text += f" On the usual labels tree and Transformer have {tree:.2f} and {transformer:.2f} on average, "
        text += f"{comparison} {top} with {rival:.2f}."
    return text


def _best(means: Mapping[str, np.ndarray]) -> str | None:
    """The best of PyOD's detectors, if there are any."""
    return max((name for name in DETECTORS if name in means), key=lambda name: means[name].mean(), default=None)
