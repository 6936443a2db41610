"""A picture and a plain answer for a training run: what ``joma show``, ``joma advise`` and ``joma.show`` do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from joma.charts import Chart, Heatmap, Mark, id_of
from joma.errors import BadInput, InvalidArgument
from joma.files import expanded
from joma.measure.curves.forecast import forecast
from joma.measure.curves.quantities import ENTROPY
from joma.measure.curves.remarks import Remark, remarks
from joma.provenance import versions
from joma.report.show import Multiples, comparison_charts, last_maps, multiples, run_charts, run_maps, thinned
from joma.studies.measurements import read_measurements
from joma.studies.phases import Phases, Place, phases
from joma.studies.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joma.studies.explorer import Explorer


@dataclass(frozen=True)
class Shown(Result):
    """Measurements of training runs: ``frame()`` has them, ``verdicts()`` what they say, ``write()`` makes a page.

    Args:
        table: all measurements (docs/metrics.md).
        sources: where they were read.
        notes: what was left out.
    """

    table: pandas.DataFrame
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def phases(self) -> Phases:
        """The phases of attention of each network, layer and head."""
        return phases(self._finite)

    @property
    def _finite(self) -> pandas.DataFrame:
        return self.table[np.isfinite(self.table["value"])]

    @cached_property
    def _networks(self) -> Phases:
        return phases(self._finite, detail="network")

    @cached_property
    def remarks(self) -> Mapping[str, Sequence[Remark]]:
        """What the measurements of each run say, problems first; the run that will end lowest says so."""
        found = {str(run): remarks(rows) for run, rows in self.table.groupby("run", sort=False)}
        if self.forecast is not None:
            run, remark = self.forecast
            found[run] = sorted([remark, *found[run]], key=lambda one: one.kind != "problem")
        return found

    @cached_property
    def forecast(self) -> tuple[str, Remark] | None:
        """The run of a grid that is predicted to end with the lowest loss, and a remark on it; ``None`` if unknown."""
        try:
            return forecast(self.table)
        except InvalidArgument as error:
            warnings.warn(f"which run will end lowest is not predicted: {error.problem}", stacklevel=2)
            return None

    def frame(self) -> pandas.DataFrame:
        """Return all measurements."""
        return self.table

    def verdicts(self) -> pandas.DataFrame:
        """Return one row per remark: run, kind, rule, text, remedy, numbers."""
        rows = [{"run": run} | asdict(remark) for run, found in self.remarks.items() for remark in found]
        return pandas.DataFrame(rows, columns=pandas.Index(["run", *Remark.__dataclass_fields__]))

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Return loss and entropy of all runs, then of each run also ranks, sinks, logits, and heatmaps.

        Of several runs, the ids of pictures begin with the run's name.
        """
        runs = dict(self.runs())
        found: list[Chart | Heatmap] = [*comparison_charts(runs)]
        for (run, rows), prefix in zip(runs.items(), _prefixes(list(runs)), strict=True):
            of_run = [*run_charts(rows, self.marks(run)), *last_maps(rows), *run_maps(rows)]
            found += of_run if len(runs) == 1 else [_of_run(picture, run, prefix) for picture in of_run]
        return found

    def runs(self) -> Iterable[tuple[str, pandas.DataFrame]]:
        """Yield each run's name and its table with as many steps as can be seen."""
        for run, rows in self.table.groupby("run", sort=False):
            yield str(run), thinned(rows)

    def multiples(self) -> Mapping[str, Multiples]:
        """Return the small curves of every head as ``heads``; of several runs one each, with the run's name first."""
        runs = dict(self.runs())
        names = ["heads"] if len(runs) == 1 else [f"{prefix}_heads" for prefix in _prefixes(list(runs))]
        found = {name: multiples(rows, ENTROPY) for name, rows in zip(names, runs.values(), strict=True)}
        return {name: one for name, one in found.items() if one is not None}

    def marks(self, run: str) -> tuple[Mark, ...]:
        """Return where phases of a run's whole network begin, except the first."""
        found = self._networks.stages.get(Place(run, None, None), ())
        return tuple(Mark("x", float(stage.since), stage.phase) for stage in found[1:])

    def summary(self) -> str:
        """Return the most important remark on each run, and which run of a grid will end lowest."""
        foreseen = [] if self.forecast is None else [self.forecast[1]]
        said = [
            f"{run}: {own[0].text}"
            for run, found in self.remarks.items()
            if (own := [one for one in found if one not in foreseen])
        ]
        more = len(said) - 3
        rest = [f"and {more} more run{'s' * (more > 1)}"] if more > 0 else []
        return "; ".join([*said[:3], *rest, *(one.text for one in foreseen)])

    def page(self, *, following: bool = False) -> str:
        """Return the page as HTML; it has a link to the explorer, which ``write()`` puts next to it.

        Args:
            following: whether the page loads itself again every few seconds.
        """
        from joma.report.pages.show import show_page

        about: dict[str, Any] = {"created": datetime.now(UTC), "versions": versions(), "following": following}
        runs = [(run, rows, self.remarks[run], self.marks(run)) for run, rows in self.runs()]
        if self.forecast is not None:  # the page has room for a few runs: the best one comes first
            best = self.forecast[0]
            runs.sort(key=lambda of_run: of_run[0] != best)
        return show_page(runs, self.sources, notes=self.notes, **about)

    def explorer(self) -> Explorer:
        """Return the explorer with the longest run that has an attention entropy, and a hierarchy that was learned."""
        from joma.studies.explorer import explorer

        return explorer(self._parts())

    def _parts(self) -> dict[str, Any]:
        from joma.studies.explorer import run_of, tree_of

        parts = run_of(self.table, ", ".join(self.sources))
        for source in self.sources:
            with suppress(BadInput):  # its latents cannot be followed
                parts = tree_of(expanded(source)) | parts
        return parts

    def write(self, folder: str | Path) -> Path:
        """Write ``show.html`` and the explorer into a folder, and return the path of the first."""
        from joma.report.pages.document import write_document
        from joma.studies.explorer import write_explorer

        write_explorer(folder, self._parts())
        return write_document(self.page(), Path(folder) / "show.html")


def _prefixes(runs: Sequence[str]) -> list[str]:
    """Return a name for each run that can stand in an id; numbered if two would be equal."""
    names = [id_of(run) for run in runs]
    return names if len(set(names)) == len(names) else [f"{name}_{idx}" for idx, name in enumerate(names)]


def _of_run(picture: Chart | Heatmap, run: str, prefix: str) -> Chart | Heatmap:
    """Put the run before a picture's id, which names its file, and before its title."""
    return replace(picture, id=f"{prefix}_{picture.id}", title=f"{run}: {picture.title}")


def show(*paths: str | Path) -> Shown:
    """Show what was measured in a training run: what happened, in words and pictures.

    >>> import torch, joma
    >>> generator = torch.manual_seed(0)
    >>> model, inputs = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True), torch.randn(2, 8, 16)
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    >>> with joma.watch(model, inputs, every=1, out="runs/mine") as probe:
    ...     for _ in range(8):
    ...         loss = (model(inputs) - inputs.roll(1, 1)).square().mean()
    ...         loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    ...         probe.step(loss=loss)
    >>> found = joma.show("runs/mine")
    >>> found.verdicts()["rule"].tolist()
    ['course', 'loss', 'gaps']
    >>> axes = found.plot()

    Args:
        *paths: folders of ``joma.watch`` (also while it runs, or after a crash), of ``joma scan``, ``joma reproduce``
            or joma's training runs; folders of transformers' Trainer or Lightning that contain one; Parquet or CSV
            files with joma's columns. Several are compared.

    Raises:
        BadInput: nothing was measured there, or a file cannot be read.
    """
    table, notes = read_measurements(paths)
    return Shown(table, tuple(map(str, paths)), notes)
