"""Evaluate claims and save each result, so that an interrupted run can be continued."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joma.claims.claim import Claim
from joma.claims.workspace import NotTrained, Planned, Workspace
from joma.errors import DISK_FULL, BadInput, NotInstalled, RunFailed, Unreachable
from joma.files import read_json, write_json
from joma.progress import Progress, silent
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

    The networks that several claims want first are trained together, and claims that want none are evaluated next to
    them, which keeps all processors busy; then the claims that wanted networks are evaluated, from their beginning.

    An error in one claim does not stop the others. Each agreement is saved before it is yielded; skipped claims are
    not saved, so that the next run tries them again.
    """
    plan, later = _Plan(workspace), list[Claim]()
    for claim in claims:
        known = _remembered(claim, workspace.folder)
        if known is not None:
            yield known
        elif claim.needs_text:  # it asks for networks at once
            yield from plan.attempt(claim)
        else:
            later.append(claim)
    own = [claim for claim in later if claim.package == "joma"]  # other processes may not find what a user imported
    yield from plan.train(own)
    for claim in later:
        if not plan.knows(claim):
            yield from plan.attempt(claim)
    yield from plan.train()
    yield from plan.finish()


class _Plan:
    """Claims that ask for networks, and the networks of them that are trained.

    Args:
        workspace: where claims are evaluated.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._wanted: dict[Claim, Sequence[Job]] = {}
        self._done: set[Claim] = set()
        self._trained: dict[Job, Run] = {}
        self._seconds: dict[Claim, float] = {}

    def knows(self, claim: Claim) -> bool:
        """Whether a claim has been evaluated, or has asked for networks."""
        return claim in self._done or claim in self._wanted

    def attempt(self, claim: Claim) -> Iterator[Outcome]:
        """Evaluate a claim that may turn out to want networks."""
        yield from self._noted(claim, _attempt(claim, self._workspace))

    def train(self, claims: Sequence[Claim] = ()) -> Iterator[Outcome]:
        """Train what several claims have asked for, or one where there is more to do meanwhile.

        Args:
            claims: claims to evaluate meanwhile, in the processes that train.
        """
        from joma.train.jobs import Failed, Timed, Training, networks_at_a_time, outcomes
        from joma.train.run import Run

        waiting = [claim for claim in self._wanted if claim not in self._seconds]
        if not waiting or len(waiting) + len(claims) < 2:
            return
        first: dict[Path, tuple[Claim, Job]] = {}
        for claim in waiting:
            for job in self._wanted[claim]:
                first.setdefault(job[2], (claim, job))
        askers, jobs = zip(*first.values(), strict=True)
        quiet = replace(self._workspace, progress=silent)
        works = [*(Timed(_Attempt(claim, quiet)) for claim in claims), *(Timed(Training(*job)) for job in jobs)]
        start, took = time.perf_counter(), dict.fromkeys(waiting, 0.0)
        what = "training 1 network" if len(jobs) == 1 else f"training {len(jobs)} networks"
        what += (
            f", evaluating {len(claims)} more claims" if claims[1:] else ", evaluating 1 more claim" if claims else ""
        )
        at_a_time = networks_at_a_time([recipe for recipe, _, _ in jobs], self._workspace.num_workers)
        in_claims = 0.0

        def report(what: str, done: float, _: float) -> None:  # claims come first, and take seconds
            self._workspace.progress(what, max(0.0, done - len(claims)), len(jobs))

        for place, found in outcomes(works, what, num_workers=at_a_time, progress=report):
            if isinstance(found, Failed):  # whoever asks for it again has the error as outcome
                continue
            result, seconds = found
            if isinstance(result, Run):
                job = jobs[place - len(claims)]
                self._trained[job] = result
                took[askers[place - len(claims)]] += seconds
            else:
                in_claims += seconds
                yield from self._noted(claims[place], result)
        left = max(0.0, time.perf_counter() - start - in_claims)  # so that the claims' seconds add up to the time
        share = left / (sum(took.values()) or 1.0)
        self._seconds |= {claim: seconds * share for claim, seconds in took.items()}

    def finish(self) -> Iterator[Outcome]:
        """Evaluate the claims that asked for networks, each with its share of the time in which they were trained."""
        with_networks = Planned.of(self._workspace, self._trained)
        for claim in self._wanted:
            yield _evaluate(claim, with_networks, self._seconds.get(claim, 0.0))

    def _noted(self, claim: Claim, result: Outcome | tuple[Job, ...]) -> Iterator[Outcome]:
        if isinstance(result, Outcome):
            self._done.add(claim)
            yield result
        else:
            self._wanted[claim] = result


def _attempt(claim: Claim, workspace: Workspace) -> Outcome | tuple[Job, ...]:
    """Evaluate a claim, or return the networks that it asks for first."""
    try:
        return _evaluate(claim, Planned.of(workspace))
    except NotTrained as wanted:
        return wanted.jobs


@dataclass(frozen=True)
class _Attempt:
    """The work of ``_attempt``; see ``joma.train.jobs.Work``."""

    claim: Claim
    workspace: Workspace

    @property
    def name(self) -> str:
        return self.claim.id

    @property
    def folder(self) -> Path:
        return _evidence_path(self.claim, self.workspace.folder)

    def do(self, progress: Progress) -> Outcome | tuple[Job, ...]:
        from joma.threads import threads

        with threads(1):
            return _attempt(self.claim, replace(self.workspace, progress=progress))


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
