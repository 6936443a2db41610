"""Published checkpoint series for the claims on series with ``--profile full``: read from the hub and verified."""

from __future__ import annotations

from collections.abc import Sequence

from joma.claims.series.subject import FEWEST_STEPS, NUM_SEEDS, Subject, Subjects, measured
from joma.claims.text.networks import unigram_nats
from joma.claims.workspace import Workspace
from joma.errors import RunFailed
from joma.measure.scan.results import StepResult
from joma.measure.scan.verification import verify
from joma.saved.series import Series, open_series

PUBLISHED = {
    "Pythia 70m": ("EleutherAI/pythia-70m", *(f"EleutherAI/pythia-70m-seed{seed}" for seed in range(1, 10))),
    "OPT 125m": ("facebook/opt-125m",),
}
"""Models, and hub repositories with training runs that differ in their seed, one for each repetition (PolyPythias,
van der Wal et al., ICLR 2025). Of OPT only the final weights are on the hub."""
PUBLISHED_STEPS = (
    *(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000, 6000, 8000, 12_000, 16_000, 24_000, 32_000),
    *(48_000, 64_000, 80_000, 96_000, 112_000, 128_000, 143_000),
)
PUBLISHED_LENGTH, PUBLISHED_PROBES = 512, 32


def published(workspace: Workspace) -> Subjects:
    """Return the published series; a model of which only the final weights are published is left out with a note.

    Raises:
        Unreachable: the hub cannot be reached. A verdict needs every model, because the smallest number decides.
        BadInput: a repository does not exist or is gated.
        RunFailed: too few steps are published or can be measured.
    """
    num_seeds = len(workspace.seeds(NUM_SEEDS))
    opened: dict[str, list[Series]] = {}
    notes = []
    for name, sources in PUBLISHED.items():
        for source in sources[:num_seeds]:
            workspace.progress(f"listing {source} on the hub", 0, 1)
            series = open_series(source)
            steps = [step for step in PUBLISHED_STEPS if step in series.steps]
            if len(steps) >= FEWEST_STEPS:
                opened.setdefault(name, []).append(open_series(source, steps=steps))
            else:
                has = f"{len(steps)} of the {len(PUBLISHED_STEPS)} steps read here" if series.numbered else "one step"
                notes.append(f"{name} is left out: {source} has {has}, and a curve needs at least {FEWEST_STEPS}.")
    if not opened:
        problem = f"no series can be read ({' '.join(notes)})"
        raise RunFailed(problem, kept="nothing was read", remedy="set `profile` to quick")
    if len(opened) < len(PUBLISHED):
        notes.append(f"The numbers are of {' and '.join(opened)} alone.")
    models = []
    for name, series in opened.items():
        subject, of_subject = _subject(workspace, name, series)
        models.append(subject)
        notes += of_subject
    return Subjects(tuple(models), tuple(notes))


def _subject(workspace: Workspace, name: str, sources: Sequence[Series]) -> tuple[Subject, list[str]]:
    """Training runs of one model, at the steps that are intact in all of them, and notes for the reader."""
    from joma.train.text.reading import read_text
    from joma.train.text.vocabulary import require_tokens, tokenize

    tokens = tokenize(read_text(workspace.text.source), None, sources[0].source, keep_ids=True)
    require_tokens(tokens, 1, PUBLISHED_LENGTH, PUBLISHED_PROBES)
    probe = tokens.held_out[: PUBLISHED_PROBES * PUBLISHED_LENGTH].view(PUBLISHED_PROBES, -1)
    scans: list[dict[int, StepResult]] = []
    left_out: list[str] = []
    for series in sources:
        faults = _faults(workspace, series)
        folder = workspace.folder / "series" / series.source.replace("/", "_")
        results = measured(series, probe, folder, workspace.progress)
        why = {result.step: result.reason or faults.get(result.step) for result in results}
        left_out += [f"{series.source}, step {step}, is left out: {reason}." for step, reason in why.items() if reason]
        scans.append({result.step: result for result in results if not why[result.step]})
    steps = [step for step in PUBLISHED_STEPS if all(step in scan for scan in scans)]
    if len(steps) < FEWEST_STEPS:
        raise RunFailed(
            f"only {len(steps)} steps of {name} can be read in every training run ({' '.join(left_out)})",
            kept="the measurements are kept",
            remedy="read fewer training runs with `seeds`, or check the files with joma scan --verify",
        )
    whole = tuple(tuple(scan[step] for step in steps) for scan in scans)
    seeds = f"{len(sources)} training runs that differ in their seed"
    if len(sources) == 1:
        seeds = "one training run; repetitions are groups of the probe sequences, and the rank has no repetitions"
    notes = [
        f"Text: {tokens.description}.",
        f"{name}: {seeds} ({', '.join(series.source for series in sources)}), {len(steps)} saved steps in common, "
        f"read on {PUBLISHED_PROBES} held-out sequences of {PUBLISHED_LENGTH} tokens.",
        *left_out,
    ]
    return Subject(name, whole, (unigram_nats(tokens, probe[:, 1:]),) * len(whole), tuple(sources)), notes


def _faults(workspace: Workspace, series: Series) -> dict[int, str]:
    """The faults of readable steps by step; the reason why a step cannot be read comes from measuring it."""
    verification = verify(series, progress=workspace.progress)
    suspects = {row.step: row.evidence for row in reversed(verification.rows) if row.severity == "error"}
    unread = {row.step for row in verification.rows if row.kind in ("unreadable", "unreachable")}
    return {
        step: suspects.get(step, "on the shorter side of a jump") for step in verification.condemned.keys() - unread
    }
