"""The explorer, one page to move the theory by hand next to a run: what ``joma explore`` and ``joma.explore`` do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from joma.report.pages.document import write_document
from joma.report.pages.explore import Evidence, explore_page
from joma.studies.explore_parts import CLAIMS, evidence_in, run_part, theory_part, tree_part
from joma.studies.measurements import read_measurements
from joma.studies.result import Result
from joma.studies.sentence import sentence as read_sentence
from joma.studies.solve import solve
from joma.train.run import Run, load_run

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


def explore(run: str | Path | None = None, *, sentence: str | None = None) -> Explorer:
    """Make a page in which the theory's solution can be moved by hand, next to a training run, a hierarchy and claims.

    What ``run`` does not have comes from small examples that are shipped with joma.

    >>> import joma
    >>> page = joma.explore().write("explore.html")
    >>> page.stat().st_size < 400_000
    True

    Args:
        run: a folder: measurements as ``joma.show`` reads them, an output folder of ``joma.reproduce`` (its claims are
            shown, too), or a run of ``joma tree train``; ``None`` for the examples.
        sentence: 2 to 64 tokens whose attention is shown over the saved steps of ``run``.

    Raises:
        BadInput: a folder with nothing to show, or a sentence without a run, or one that cannot be read there.
    """
    if run is None and sentence is not None:
        problem = "`sentence` has no effect without a run"
        raise BadInput(problem, expected="a folder with saved steps", remedy="name one, or leave it out")
    data, (evidence, source) = {"theory": theory_part()}, _shipped_claims()
    data |= {part: _shipped(f"{part}.json") for part in ("run", "tree")}
    if run is not None:
        own, claims = _of_folder(expanded(run), sentence)
        data |= own
        evidence, source = claims or (evidence, source)
    by_part = {part: [evidence[id] for id in ids if id in evidence] for part, ids in CLAIMS.items()}
    return Explorer(data, by_part, source)


def _shipped(name: str) -> dict[str, Any]:
    with as_file(files("joma.studies") / "shipped" / name) as path:
        return read_json(path, dict[str, Any], expected="joma's own examples", remedy="install joma again")


def _shipped_claims() -> Claims:
    with as_file(files("joma.studies") / "shipped" / CLAIMS_FILE) as path:
        found, source = evidence_in(path)
    return found, f"{source}; shipped with joma"


def _of_folder(folder: Path, sentence: str | None) -> tuple[dict[str, Any], Claims | None]:
    """Return the parts that a folder has, and its claims."""
    parts: dict[str, Any] = {}
    claims = evidence_in(folder / CLAIMS_FILE) if (folder / CLAIMS_FILE).exists() else None
    if (trained := _learned_law(folder)) is not None:
        parts["tree"] = tree_part(trained) | {"made": str(folder)}
    said = None if sentence is None else read_sentence(folder, sentence)
    try:
        table, notes = read_measurements([folder])
    except BadInput:
        if claims is None and not parts:
            raise
        return parts, claims
    found = (run_part(table, name, said) for name in _by_interest(table))
    if (own := next((part for part in found if part is not None), None)) is not None:
        more = table["run"].nunique() - 1
        others = f"; {more} more there: name the folder of one" if more else ""
        parts["run"] = own | {"made": "; ".join([f"{own['name']} in {folder}{others}", *notes])}
    if not parts and claims is None:
        raise BadInput(
            f"{folder} has no attention entropy, no latents and no claims",
            expected="a training run that was measured",
            remedy="watch one with joma.watch(..., out=FOLDER), or leave out the folder to see the examples",
        )
    return parts, claims


def _by_interest(table: pandas.DataFrame) -> list[str]:
    """The runs of a table: those that learned a text before those that learned labels, the longest first."""
    of_labels = set(table.loc[table["metric"] == "val_accuracy", "run"])
    num_probes = table.groupby("run", sort=False)["step"].nunique()
    return sorted(map(str, num_probes.index), key=lambda name: (name in of_labels, -num_probes[name]))


def _learned_law(folder: Path) -> Run | None:
    """The run in a folder, if it learned the labels of a law."""
    if not (folder / CONFIG_FILE).is_file():
        return None
    try:
        found = load_run(folder)
        found.law()
    except BadInput:  # it learned a text, or is a model of another library
        return None
    return found
