"""The explorer's page with its parts: those of a run, and the examples that are shipped with joma for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pandas

from joma.charts import Chart
from joma.errors import BadInput
from joma.files import expanded, read_json
from joma.provenance import versions
from joma.report.drawing.words import format_estimate
from joma.report.pages.document import EXPLORER, write_document
from joma.report.pages.explore import Evidence, explore_page
from joma.studies.explore_parts import CLAIMS, evidence_in, run_part, theory_part, tree_part
from joma.studies.measurements import read_measurements
from joma.studies.result import Result
from joma.studies.solve import solve
from joma.train.run import load_run

CLAIMS_FILE, CONFIG_FILE = "claims.json", "config.json"

Claims = tuple[dict[str, Evidence], str]
"""Claims by id, and how they were evaluated."""


@dataclass(frozen=True)
class Explorer(Result):
    """The explorer's page: ``write()`` writes it, ``verdicts()`` has the claims on it, ``frame()`` the entropies.

    Args:
        data: what the page draws, by part.
        evidence: the claims on each part.
        source: how the claims were evaluated.
    """

    data: Mapping[str, Any]
    evidence: Mapping[str, Sequence[Evidence]]
    source: str

    def frame(self) -> pandas.DataFrame:
        """Return the attention entropy of the run: step, layer, head, attention_entropy_nats."""
        run = self.data["run"]
        rows = [
            {"step": step, "layer": row["layer"], "head": row["head"], "attention_entropy_nats": value}
            for row in run["rows"]
            for step, value in zip(run["steps"], row["entropy"], strict=True)
        ]
        return pandas.DataFrame(rows).astype({"head": "Int32"})

    def verdicts(self) -> pandas.DataFrame:
        """Return one row per claim: part, claim, verdict, measured."""
        rows = [
            {"part": part, "claim": one.id, "verdict": one.verdict, "measured": _measured(one)}
            for part, found in self.evidence.items()
            for one in found
        ]
        return pandas.DataFrame(rows, columns=pandas.Index(["part", "claim", "verdict", "measured"]))

    def pictures(self) -> Sequence[Chart]:
        """Return the components and the attention entropy of the example that the page opens with."""
        figure4 = self.data["theory"]["figure4"]
        times = [figure4["end"] * step / 400 for step in range(401)]
        return solve(times, mu=figure4["rates"], v0=figure4["v0"], gain=figure4["gain"]).pictures()

    def summary(self) -> str:
        """Return where the parts of the page come from."""
        num = sum(map(len, self.evidence.values()))
        made = [f"run: {self.data['run']['made']}", f"hierarchy: {self.data['tree']['made']}"]
        return f"the theory, {'; '.join(made)}; {num} claim{'' if num == 1 else 's'}: {self.source}"

    def page(self) -> str:
        """Return the page as HTML."""
        return explore_page(self.data, self.evidence, self.source, created=datetime.now(UTC), versions=versions())

    def write(self, path: str | Path) -> Path:
        """Write the page to a file, or as ``explore.html`` into a folder, and return its path."""
        wanted = expanded(path)
        return write_document(self.page(), wanted / "explore.html" if wanted.is_dir() else wanted)


def _measured(one: Evidence) -> str | None:
    return format_estimate(one.agreement.measured) if one.agreement else None


def explorer(own: Mapping[str, Any], claims: Claims | None = None) -> Explorer:
    """Return the page with a user's parts, ``run`` or ``tree``, and claims; what is missing comes from the examples."""
    evidence, source = claims or _shipped_claims()
    data = {"theory": theory_part()} | {part: own.get(part) or _shipped(f"{part}.json") for part in ("run", "tree")}
    by_part = {part: [evidence[id] for id in ids if id in evidence] for part, ids in CLAIMS.items()}
    return Explorer(data, by_part, source)


def write_explorer(folder: str | Path, own: Mapping[str, Any]) -> None:
    """Write the explorer that the reports in a folder link to; claims that ``joma reproduce`` wrote there are on it.

    Args:
        folder: of a report.
        own: its parts (``run_of``, ``tree_of``); what is missing comes from the examples.
    """
    folder, claims = Path(folder), None
    if (folder / CLAIMS_FILE).exists():
        with suppress(BadInput):  # another program's file of that name
            claims = evidence_in(folder / CLAIMS_FILE)
    write_document(explorer(own, claims).page(), folder / EXPLORER)


def measured_in(source: str | Path) -> pandas.DataFrame | None:
    """Return the measurements in a folder; ``None`` if there are none."""
    try:
        return read_measurements([source])[0]
    except BadInput:
        return None


def run_of(
    table: pandas.DataFrame | None, source: str, notes: Sequence[str] = (), sentence: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the most interesting run of a table as the part ``run``; nothing if none has an attention entropy.

    Args:
        table: the measurements (docs/metrics.md); ``None`` if there are none.
        source: where they were read.
        notes: what was left out of them.
        sentence: attention to a sentence (``sentence_part``).
    """
    if table is None:
        return {}
    found = (run_part(table, name, sentence) for name in _by_interest(table))
    if (own := next((part for part in found if part is not None), None)) is None:
        return {}
    more = table["run"].nunique() - 1
    others = f"; {more} more there: name the folder of one" if more else ""
    return {"run": own | {"made": "; ".join([f"{own['name']} in {source}{others}", *notes])}}


def tree_of(folder: Path) -> dict[str, Any]:
    """Return the hierarchy that a run in a folder learned as the part ``tree``; nothing if it learned none.

    Raises:
        BadInput: its latents cannot be followed over training.
    """
    if not (folder / CONFIG_FILE).is_file():
        return {}
    try:
        found = load_run(folder)
        found.law()
    except BadInput:  # it learned a text, or is a model of another library
        return {}
    return {"tree": tree_part(found) | {"made": str(folder)}}


def _by_interest(table: pandas.DataFrame) -> list[str]:
    """The runs of a table: those that learned a text before those that learned labels, the longest first."""
    of_labels = set(table.loc[table["metric"] == "val_accuracy", "run"])
    num_probes = table.groupby("run", sort=False)["step"].nunique()
    return sorted(map(str, num_probes.index), key=lambda name: (name in of_labels, -num_probes[name]))


def _shipped(name: str) -> dict[str, Any]:
    with as_file(files("joma.studies") / "shipped" / name) as path:
        return read_json(path, dict[str, Any], expected="joma's own examples", remedy="install joma again")


def _shipped_claims() -> Claims:
    with as_file(files("joma.studies") / "shipped" / CLAIMS_FILE) as path:
        found, source = evidence_in(path)
    return found, f"{source}; shipped with joma"
