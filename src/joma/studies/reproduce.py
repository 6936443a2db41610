"""Claims held against the evidence: what ``joma reproduce`` and ``joma.reproduce`` do."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas

from joma.claims.evaluation import Outcome, evaluate, finished, measurements, prepare
from joma.claims.kept import KEPT, is_shrunk, shrink
from joma.claims.registry import all_claims, select
from joma.claims.workspace import DATA, Profile, TextChoice, Workspace
from joma.devices import device_of
from joma.domains import check_whole, choose
from joma.errors import BadInput, InvalidArgument
from joma.progress import Progress
from joma.report.drawing.words import format_bytes, verdict_text
from joma.report.pages.results import write_results
from joma.report.progress import Display, shown
from joma.report.verdicts import verdicts_summary, why_not_decided
from joma.studies.result import Interrupted, Result
from joma.tidy import frame_of
from joma.train.text.reading import require_text

if TYPE_CHECKING:
    from joma.charts import Chart

DEFAULT_OUT = "joma-out"


@dataclass(frozen=True)
class Reproduction(Result):
    """Claims and what became of them: ``verdicts()`` has a row for each, ``plot("theorem4")`` draws its first chart.

    Args:
        outcomes: what became of the claims, in their order.
        folder: that holds everything, ``report.html`` too.
        record: what ``claims.json`` holds, of all claims in the folder.
        freed: bytes of trained networks that were removed in the end.
    """

    outcomes: tuple[Outcome, ...]
    folder: Path
    record: dict[str, Any]
    freed: int = 0

    def frame(self) -> pandas.DataFrame:
        """Every measurement of the networks that were trained (docs/metrics.md)."""
        return frame_of(measurements(self.folder))

    def verdicts(self) -> pandas.DataFrame:
        """One row for each claim: its verdict, the deciding number with its interval, and when it counts."""
        rows = []
        for outcome in self.outcomes:
            row: dict[str, Any] = {"claim": outcome.claim.id, "verdict": verdict_text(outcome)}
            if (agreement := outcome.agreement) is not None:
                measured, criterion = agreement.measured, agreement.criterion
                low, high = measured.interval
                row |= {"measured": measured.mean, "low": low, "high": high, "unit": measured.unit}
                row |= {"counts_if": f"{criterion.relation} {criterion.threshold:g}"}
            rows.append(row | {"seconds": outcome.seconds, "reason": why_not_decided(outcome) or None})
        return pandas.DataFrame(rows)

    def pictures(self) -> Sequence[Chart]:
        """Every chart of every claim, ``claim/chart`` for an id; the first of each also by the claim's id."""
        found = [(outcome.claim.id, outcome.agreement.charts) for outcome in self.outcomes if outcome.agreement]
        first = [replace(charts[0], id=id) for id, charts in found if charts]
        return [*first, *(replace(chart, id=f"{id}/{chart.id}") for id, charts in found for chart in charts)]

    def summary(self) -> str:
        """How many claims ended how."""
        return verdicts_summary(self.outcomes)

    def kept(self) -> str:
        """What the folder keeps of trained networks and why; empty if nothing was removed."""
        removed = f"{KEPT} ({format_bytes(self.freed)}) were removed: training again gives them to the bit"
        return f"{removed}; with --keep they stay." if self.freed else ""


def reproduce(
    *claims: str,
    out: str | Path = DEFAULT_OUT,
    profile: Literal["quick", "full"] = "quick",
    seeds: int | None = None,
    text: str | TextChoice | None = None,
    device: Literal["cpu", "auto"] = "cpu",
    workers: int | None = None,
    keep: bool = False,
    data: Mapping[str, str | Path] | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Hold claims against the evidence, and say for each whether it holds.

    >>> import joma
    >>> found = joma.reproduce("theorem4", out="evidence")
    >>> found.verdicts()[["claim", "verdict"]].values.tolist()
    [['theorem4', 'holds']]
    >>> axes = found.plot()

    Args:
        *claims: ids, the start of several up to a dot (``theorem1``), or ``all``; where none is named, those that
            take minutes together.
        out: a folder that keeps each finished claim, and goes on from there; in the end it holds ``report.html``.
        profile: ``quick`` takes five minutes for the claims that are evaluated by default, and some for each other one;
            ``full`` has the paper's sizes and takes hours.
        seeds: repetitions of whatever is random; each claim has its own default.
        text: that networks learn: a file, a folder, ``wikitext2``, ``wikitext103``, or with more settings a
            ``TextChoice``; what ships with Python where ``None``.
        device: where networks train: ``cpu``, or ``auto`` for an accelerator where there is one.
        workers: networks trained at a time; as many as there are processors where ``None``.
        keep: whether to keep the optimisers' states and the weights of all saved steps. Otherwise only the last weights
            of each network stay once every claim is evaluated without an error.
        data: files and folders of your own by name, for claims on other data than text: ``images``, ``fashion``,
            ``ratings``, ``table``.
        progress: called as it goes on; a progress bar where ``None``.

    Raises:
        BadInput: a claim that there is not, a folder with other settings, a text or data that cannot be used. What
            goes wrong inside one claim is its outcome.
        Interrupted: Ctrl-C; its ``result`` has the claims that were finished.
    """
    choice = text if isinstance(text, TextChoice) else TextChoice(text)
    profiles = {kind.value: kind for kind in Profile}
    chosen_profile = choose(profile, profiles, "reproduce", "profile")
    device_of(device, "reproduce")
    for name, count in (("seeds", seeds), ("workers", workers)):
        if count is not None:
            check_whole(count, "reproduce", name, low=1)
    require_text(choice.source)  # before a folder remembers it
    workspace = Workspace(
        Path(out), chosen_profile, seeds, choice, device, workers, _existing({} if data is None else data)
    )
    if keep and is_shrunk(workspace.folder):
        problem = f"an earlier run in {workspace.folder} removed weights of the networks that it finished"
        warnings.warn(f"{problem}: `keep` does not restore them; name a new folder with `out`", stacklevel=2)
    chosen, outcomes, interrupted = select(claims), [], False
    try:
        with nullcontext(progress) if progress else shown(len(chosen)) as report:
            reporting = replace(workspace, progress=report)
            prepare(chosen, reporting)
            for outcome in evaluate(chosen, reporting):
                outcomes.append(outcome)
                if isinstance(report, Display):
                    report.finished(outcome.claim.id, outcome)
    except KeyboardInterrupt:
        interrupted = True
    outcomes.sort(key=lambda outcome: chosen.index(outcome.claim))
    found = Reproduction(tuple(outcomes), workspace.folder, _write(outcomes, workspace))
    if interrupted:
        raise Interrupted(found)
    if keep or any(outcome.error for outcome in outcomes):
        return found
    evaluated = {outcome.claim.id for outcome in finished(list(all_claims().values()), workspace.folder)}
    return replace(found, freed=shrink(workspace.folder, evaluated))


def _existing(data: Mapping[str, str | Path]) -> dict[str, str]:
    """Return the user's data with absolute paths, or raise where a name is unknown or nothing is there."""
    if not isinstance(data, Mapping):
        required, remedy = "a mapping of names to paths", "pass {'ratings': 'my-ratings.csv'}, for example"
        received = f"of type {type(data).__name__}"
        raise InvalidArgument("reproduce", "data", required=required, received=received, remedy=remedy)
    for name, path in data.items():
        choose(name, DATA, "reproduce", "data")
        if not isinstance(path, str | Path):
            received, remedy = f"{path!r} for {name}", "pass its path"
            raise InvalidArgument("reproduce", "data", required=DATA[name], received=received, remedy=remedy)
        if not Path(path).exists():
            raise BadInput(f"there is no {path}", expected=DATA[name], remedy=f"correct the path of {name}")
    return {name: str(Path(path).absolute()) for name, path in data.items()}


def _write(outcomes: Sequence[Outcome], workspace: Workspace) -> dict[str, Any]:
    """Write everything a person or a machine may want to read, of claims that were finished earlier too."""
    from joma.studies.explorer import measured_in, run_of, write_explorer

    here = {outcome.claim.id: outcome for outcome in outcomes}
    known = {outcome.claim.id: outcome for outcome in finished(list(all_claims().values()), workspace.folder)}
    everything = [(known | here)[id] for id in all_claims() if id in known | here]
    record = write_results(everything, workspace, _as_typed(workspace))
    write_explorer(workspace.folder, run_of(measured_in(workspace.folder), str(workspace.folder)))
    return record


def _as_typed(workspace: Workspace) -> str:
    """The settings that evidence depends on, as options of the command; defaults are left out."""
    settings = {"profile": workspace.profile.value, "seeds": workspace.num_seeds, **asdict(workspace.text)}
    settings |= {"text": settings.pop("source"), "device": workspace.device, "out": str(workspace.folder)}
    defaults = {"profile": "quick", "device": "cpu", "out": DEFAULT_OUT}
    order = ("profile", "seeds", "text", "vocabulary_size", "tokenizer", "device", "out")
    given = [(name, settings[name]) for name in order if settings[name] not in (None, defaults.get(name))]
    given += [("data", f"{name}={path}") for name, path in workspace.data.items()]
    return shlex.join(word for name, value in given for word in (f"--{name.replace('_', '-')}", str(value)))
