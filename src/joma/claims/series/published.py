"""The published checkpoint series that two claims read in ``full``: from the hub, looked at for faults first."""

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
"""Kinds of models, and repositories of the hub with trainings that differ in their seed; as many of these are read as
there are repetitions (PolyPythias, van der Wal et al., ICLR 2025). Of OPT the hub has the end alone."""
PUBLISHED_STEPS = (
    *(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000, 6000, 8000, 12_000, 16_000, 24_000, 32_000),
    *(48_000, 64_000, 80_000, 96_000, 112_000, 128_000, 143_000),
)
PUBLISHED_LENGTH, PUBLISHED_PROBES = 512, 32


def published(workspace: Workspace) -> Subjects:
    """The published series; a kind of model of which only the end is published is left out with a note.

    Raises:
        Unreachable: the hub cannot be asked. Then there is no verdict on the series that were read before, since the
            number is that of the kind that shows less.
        BadInput: a repository is not there, or gated.
        RunFailed: too few steps are published, or can be measured.
    """
    num_seeds = len(workspace.seeds(NUM_SEEDS))
    opened: dict[str, list[Series]] = {}
    notes = []
    for name, sources in PUBLISHED.items():
        for source in sources[:num_seeds]:
            workspace.progress(f"asking the hub for {source}", 0, 1)
            series = open_series(source)
            steps = [step for step in PUBLISHED_STEPS if step in series.steps]
            if len(steps) < FEWEST_STEPS:
                has = f"{len(steps)} of the {len(PUBLISHED_STEPS)} steps read here" if series.numbered else "one step"
                notes.append(f"{name} is left out: {source} has {has}, and a curve takes at least {FEWEST_STEPS}.")
                continue
            opened.setdefault(name, []).append(open_series(source, steps=steps))
    if not opened:
        raise RunFailed(
            f"no series can be read ({' '.join(notes)})", kept="nothing was read", remedy="take --profile quick"
        )
    if len(opened) < len(PUBLISHED):
        notes.append(f"The numbers are of {' and '.join(opened)} alone.")
    models = []
    for name, series in opened.items():
        subject, told = _subject(workspace, name, series)
        models.append(subject)
        notes += told
    return Subjects(tuple(models), tuple(notes))


def _subject(workspace: Workspace, name: str, sources: Sequence[Series]) -> tuple[Subject, list[str]]:
    """Trainings of one recipe, read on one probe at the steps that all of them have whole; what a reader must know."""
    from joma.train.text.reading import read_text
    from joma.train.text.vocabulary import require_tokens, tokenize

    tokens = tokenize(read_text(workspace.text.source), None, sources[0].source, keep_ids=True)
    require_tokens(tokens, 1, PUBLISHED_LENGTH, PUBLISHED_PROBES)
    probe = tokens.held_out[: PUBLISHED_PROBES * PUBLISHED_LENGTH].view(PUBLISHED_PROBES, -1)
    scans: list[dict[int, StepResult]] = []
    left_out: list[str] = []
    for series in sources:
        condemned = _condemned(workspace, series)
        folder = workspace.folder / "series" / series.source.replace("/", "_")
        results = measured(series, probe, folder, workspace.progress)
        why = {result.step: result.reason or condemned.get(result.step) for result in results}
        left_out += [f"{series.source}, step {step}, is left out: {reason}." for step, reason in why.items() if reason]
        scans.append({result.step: result for result in results if not why[result.step]})
    steps = [step for step in PUBLISHED_STEPS if all(step in scan for scan in scans)]
    if len(steps) < FEWEST_STEPS:
        raise RunFailed(
            f"only {len(steps)} steps of {name} can be read in every training ({' '.join(left_out)})",
            kept="what was measured is kept",
            remedy="read fewer trainings with --seeds, or look with joma scan --verify at what is wrong",
        )
    whole = tuple(tuple(scan[step] for step in steps) for scan in scans)
    unigram = unigram_nats(tokens, probe[:, 1:])
    seeds = f"{len(sources)} trainings that differ in their seed"
    if len(sources) == 1:
        seeds = "one training; groups of the probe sequences stand for repetitions, of which the rank has none"
    notes = [
        f"Text: {tokens.description}.",
        f"{name}: {seeds} ({', '.join(series.source for series in sources)}), {len(steps)} saved steps that all have, "
        f"read on {PUBLISHED_PROBES} held-out sequences of {PUBLISHED_LENGTH} tokens.",
        *left_out,
    ]
    return Subject(name, whole, (unigram,) * len(whole), tuple(sources)), notes


def _condemned(workspace: Workspace, series: Series) -> dict[int, str]:
    """Steps that are not what they say, and why; of those that cannot be read, measuring says more."""
    verification = verify(series, progress=workspace.progress)
    suspects = {row.step: row.evidence for row in reversed(verification.rows) if row.severity == "error"}
    unread = {row.step for row in verification.rows if row.kind in ("unreadable", "unreachable")}
    return {
        step: suspects.get(step, "on the shorter side of a jump")
        for step in verification.condemned
        if step not in unread
    }
