"""The pages of the documentation that are lists: ``python -m joma.report.catalogue`` writes them into ``docs/``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from joma.claims.claim import Claim
from joma.claims.registry import OWN
from joma.metrics import METRICS, Queries

_CLAIMS = """# Claims

Made from the registry by `python -m joma.report.catalogue`. Which of them hold is not written
here: `joma reproduce` says so, on your machine and your text, with numbers. What the verdicts mean is in
[reproduce.md](reproduce.md).
"""


def claims_page(claims: Iterable[Claim]) -> str:
    """Return every claim with its formula, source, assumptions, test and control, as Markdown."""
    return "\n".join([_CLAIMS, *(_section(claim) for claim in claims)])


def _section(claim: Claim) -> str:
    reference = claim.reference
    return f"""## {claim.id}

{reference.statement}

    {reference.formula}

- **Source**: {reference.source}
- **Assumes**: {"; ".join(reference.assumptions)}
- **Test**: {claim.test}
- **Control**: {claim.control}
- **Run it**: `joma reproduce {claim.id}`
"""


_METRICS = """# Metrics

The same name means the same number in every table: of `joma.watch`, of `joma scan`, and of joma's own training runs.
This page is made from the code by `python -m joma.report.catalogue`.

Tables are tidy: one row per number, columns `run`, `step`, `layer`, `head`, `projection`, `metric`, `value`. Layers and
heads count from 0, and are null where a metric has none. `projection` names the weight matrix of a metric of weights
(`query`, `key`, `value`, `output`, `mlp_lower`, `mlp_gate`, `mlp_upper`). Where there are any, `group` names a part of
the probe (`sequences_3`, `positions_1_8`; null: all of it), `reason` says why a step has no numbers, and `suspect` what
is wrong with a step. Tables of different sources can be concatenated in pandas.

| name | meaning | unit | read off | over queries | measured by |
|---|---|---|---|---|---|
"""

_QUERIES: dict[Queries, str] = {
    "all": "mean over all that see a key and are no padding",
    "spreading": "mean over those that see two keys or more",
    "largest": "the largest of all that see a key and are no padding",
    "": "–",
}


def metrics_page() -> str:
    """Return every metric with its meaning, unit and source, as Markdown."""
    rows = (
        f"| `{metric.name}` | {metric.meaning} | {metric.unit or '–'} | {metric.source} | "
        f"{_QUERIES[metric.queries]} | {', '.join(metric.measured_by)} |\n"
        for metric in METRICS.values()
    )
    return _METRICS + "".join(rows)


PAGES = {"claims.md": lambda: claims_page(OWN), "metrics.md": metrics_page}
"""The pages by file name."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path("docs", name).write_text(page(), encoding="utf-8")
