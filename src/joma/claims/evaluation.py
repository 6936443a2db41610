"""Evaluate claims and save each result, so that an interrupted run can be continued."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joma.claims.claim import Claim
from joma.claims.workspace import NotTrained, Workspace
from joma.errors import DISK_FULL, BadInput, NotInstalled, RunFailed, Unreachable
from joma.files import read_json, write_json
from joma.provenance import code_digest
from joma.records import DERIVED, Agreement, Measurement
from joma.serialization import decoded, sealed, shaped, unsealed

if TYPE_CHECKING:
    from joma.train.jobs import Job
    from joma.train.run import Run

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Outcome:
    """The result of evaluating one claim: an agreement, or the reason why there is none.

    Args:
        claim: the claim.
        agreement: the evidence; ``None`` if the claim could not be evaluated.
        error: why it could not be evaluated; empty otherwise.
        seconds: wall-clock time, including the networks that were trained for this claim first. Networks of several
            claims are trained together, and each claim has its share of that time.
        remembered: whether an earlier run in the same folder evaluated it.
        skipped: which service could not be reached or which package is missing, and what to do; empty otherwise. This
            is not an error.
    """

    claim: Claim
    agreement: Agreement | None
    error: str
    seconds: float
    remembered: bool = False
    skipped: str = ""

    @property
    def reason(self) -> str:
        """Why there is no agreement; empty if there is one."""
        return self.error or self.skipped


@dataclass(frozen=True)
class _Evidence:
    """A file of evidence.

    Args:
        code: digest of the code that made it.
        seconds: as in ``Outcome``.
        agreement: the evidence.
    """

    code: str
    seconds: float
    agreement: Agreement


def prepare(claims: Sequence[Claim], workspace: Workspace) -> None:
    """Check or create the output folder, and read the text if a claim needs it.

    Raises:
        BadInput: the folder contains other files, or evidence made with other settings; the text cannot be used.
    """
    _claim_folder(workspace)
    if any(claim.needs_text for claim in claims):
        workspace.tokens()


def evaluate(claims: Sequence[Claim], workspace: Workspace) -> Iterator[Outcome]:
    """Evaluate claims, except those that an earlier run in the same folder evaluated.

    Those that train no network come first. Then the networks that the others want first are trained together, which
    keeps all processors busy, and the others are evaluated, from their beginning.

    An error in one claim does not stop the others. Each agreement is saved before it is yielded; skipped claims are
    not saved, so that the next run tries them again.
    """
    waiting: dict[Claim, tuple[Job, ...]] = {}
    for claim in claims:
        known = _remembered(claim, workspace.folder)
        if known is not None:
            yield known
            continue
        try:
            yield _evaluate(claim, replace(workspace, trains=False))
        except NotTrained as wanted:
            waiting[claim] = wanted.jobs
    trained, shares = _trained_together(waiting, workspace) if len(waiting) > 1 else ({}, dict.fromkeys(waiting, 0.0))
    for claim, seconds in shares.items():
        yield _evaluate(claim, replace(workspace, trained=trained), seconds)


def _trained_together(
    wanted: Mapping[Claim, Sequence[Job]], workspace: Workspace
) -> tuple[dict[Job, Run], dict[Claim, float]]:
    """Train the networks of several claims; return them, and each claim's share of the seconds as in ``Outcome``."""
    first: dict[Path, tuple[Claim, Job]] = {}
    for claim, jobs in wanted.items():
        for job in jobs:
            first.setdefault(job[2], (claim, job))
    start = time.perf_counter()
    try:
        found = workspace.train_all([job for _, job in first.values()])
    except (BadInput, RunFailed):  # the claim that wants the network asks for it again, and has the error as outcome
        return {}, dict.fromkeys(wanted, 0.0)
    seconds, in_workers = time.perf_counter() - start, sum(took for _, took in found)
    shares = dict.fromkeys(wanted, 0.0)
    for (claim, _), (_, took) in zip(first.values(), found, strict=True):
        shares[claim] += seconds * took / in_workers
    return {job: run for (_, job), (run, _) in zip(first.values(), found, strict=True)}, shares


def finished(claims: Sequence[Claim], folder: Path) -> list[Outcome]:
    """Return the outcomes in ``folder`` that this version of the code produced."""
    found = (_remembered(claim, folder) for claim in claims)
    return [outcome for outcome in found if outcome is not None]


def measurements(folder: Path) -> Iterator[Measurement]:
    """Yield the measurements of all networks in an output folder."""
    from joma.train.run import load_run

    runs = folder / "runs"
    for run in sorted(runs.iterdir() if runs.is_dir() else ()):
        try:
            if run.is_dir() and any(run.iterdir()):
                yield from load_run(run).measurements()
        except (BadInput, RunFailed) as damage:  # the report of the other runs must not depend on a damaged one
            remedy = f"remove {run} and {folder / 'evidence'}, and run the same again to train it anew"
            warnings.warn(f"{run.name} is left out of the metrics table: {damage.problem}; {remedy}", stacklevel=2)


def _evaluate(claim: Claim, workspace: Workspace, seconds_before: float = 0.0) -> Outcome:
    start, path = time.perf_counter() - seconds_before, _evidence_path(claim, workspace.folder)
    try:
        agreement = claim.load()(workspace)
        if not isinstance(agreement, Agreement):
            raise TypeError(f"{claim.evaluate} returned {agreement!r}, which is no Agreement")
        seconds = time.perf_counter() - start
        record = {"code": code_digest(claim.package), "seconds": seconds, "agreement": agreement.to_json()}
        write_json(path, sealed(record))
    except (Unreachable, NotInstalled) as absence:
        return Outcome(claim, None, "", time.perf_counter() - start, skipped=str(absence))
    except (BadInput, RunFailed) as error:
        return Outcome(claim, None, str(error), time.perf_counter() - start)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise  # not an error of the claim: the caller reports the full disk
        trace = path.with_suffix(".error.txt")
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.write_text(traceback.format_exc(), encoding="utf-8")
        reason = f"{type(error).__name__}: {error} (traceback in {trace.parent.name}/{trace.name})"
        return Outcome(claim, None, reason, time.perf_counter() - start)
    return Outcome(claim, agreement, "", seconds)


def _remembered(claim: Claim, folder: Path) -> Outcome | None:
    path = _evidence_path(claim, folder)
    try:
        found = shaped(unsealed(decoded(path.read_bytes())), _Evidence, ignored=DERIVED)
    except FileNotFoundError:
        return None
    except ValueError as damage:
        warnings.warn(f"{path} is damaged ({damage}): {claim.id} has to be evaluated again", stacklevel=2)
        return None
    if found.code != code_digest(claim.package):
        return None
    return Outcome(claim, found.agreement, "", found.seconds, remembered=True)


def _evidence_path(claim: Claim, folder: Path) -> Path:
    return folder / "evidence" / f"{claim.id}.json"


def _claim_folder(workspace: Workspace) -> None:
    """Write the settings into a new output folder, or require that an existing one has the same."""
    folder, wanted = workspace.folder, _settings(workspace)
    path = folder / SETTINGS
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file", expected="an output folder", remedy="name another one with `out`")
    if folder.is_dir() and any(folder.iterdir()) and not path.exists():
        raise BadInput(
            f"{folder} contains other files",
            expected="an empty folder or one that joma reproduce made",
            remedy="name another one with `out`",
        )
    if not path.exists():
        write_json(path, wanted)
        return
    remedy = "name another folder with `out`, or delete this one and start again"
    kept = read_json(path, dict[str, Any], expected="the settings of the run in this folder", remedy=remedy)
    found = {"device": "cpu", "data": {}} | kept
    different = [name for name in wanted if name not in found or found[name] != wanted[name]]
    if different:
        name = different[0]
        problem = f"{folder} contains evidence made with {name} = {found.get(name)!r}"
        raise BadInput(problem, expected=f"{name} = {wanted[name]!r}", remedy=remedy)


def _settings(workspace: Workspace) -> dict[str, Any]:
    settings = {"profile": workspace.profile.value, "seeds": workspace.num_seeds, **asdict(workspace.text)}
    return settings | {"device": workspace.device, "data": dict(workspace.data)}
