"""The checkpoint series that two claims read: trained here on real text in ``quick``, published ones in ``full``.

Both are read as any series of saved steps is, by ``joma.measure``: from the files alone, step by step.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from joma.claims.networks import Course
from joma.claims.workspace import Profile, Workspace
from joma.errors import BadInput, RunFailed
from joma.measure.checkpoints import Series, open_series
from joma.measure.measures import choose_measures
from joma.measure.scan_store import FILE, Row, ScanStore, StepResult
from joma.measure.scanning import Plan, is_current, measure_step
from joma.train.series import SeriesRecipe

ENTROPY, RANK, LOSS = "attention_entropy_normalized", "stable_rank", "loss_nats"
NAMES = {"gpt_neox": "GPT-NeoX", "opt": "OPT"}
NUM_ORDERS = 50

NUM_SEEDS = 3
VOCABULARY_SIZE = 512
NUM_PROBES = 8
TRAINED = SeriesRecipe(num_steps=400, save_every=25, learning_rate=3e-3, num_layers=2)
"""Learning rate by the loss after 300 steps alone (1e-3, 3e-3 and 1e-2 tried on either family, before any entropy or
rank was looked at); the other sizes by the time there is."""

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

_FEWEST_STEPS = 9
_MEASURED = "measured"
_STEPS_A_MEASUREMENT = 6  # how many training steps cost as much as measuring a saved one: for progress alone


@dataclass(frozen=True)
class Subject:
    """One kind of model, and its series measured: one for every seed, or a published one.

    Args:
        name: of the kind.
        scans: the results of every saved step, one tuple per series.
        unigram_nats: the loss, on each series' probe, of predicting by word frequencies alone.
        sources: where the series are.
    """

    name: str
    scans: tuple[tuple[StepResult, ...], ...]
    unigram_nats: tuple[float, ...]
    sources: tuple[Series, ...]

    @property
    def id(self) -> str:
        """The name, fit for one of a file."""
        return re.sub(r"\W", "_", self.name.lower())

    @property
    def steps(self) -> tuple[int, ...]:
        """The saved steps."""
        return tuple(result.step for result in self.scans[0])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, from 0."""
        return tuple(sorted({row.layer for row in self.scans[0][0].rows if row.layer is not None}))

    def course(self, measure: str, layer: int | None, projection: str | None = None) -> Course:
        """One quantity over training: a row per seed, of a single series a row per group of probe sequences.

        Args:
            measure: its name.
            layer: ``None`` for one of the whole model.
            projection: of which it is read, for those of weights; heads are averaged over elsewhere.
        """

        def wanted(row: Row) -> bool:
            of_whole = projection is None or row.head is None
            return row.measure == measure and row.layer == layer and row.projection == projection and of_whole

        curves = [[[row for row in result.rows if wanted(row)] for result in scan] for scan in self.scans]
        if len(curves) == 1 and projection is None:
            groups = sorted({row.group for row in curves[0][0] if row.group is not None})
            curves = [[[row for row in rows if row.group == group] for rows in curves[0]] for group in groups]
        return Course(
            self.steps, np.array([[np.mean([row.value for row in rows]) for rows in curve] for curve in curves])
        )

    def frequencies_learned(self) -> int:
        """The first saved step at which the series together predict better than word frequencies can.

        Before it a model learns which words are frequent, in which attention moves too, but for another reason
        (``joma.claims.networks.frequencies_learned``).

        Raises:
            RunFailed: they never do, or so late that hardly a saved step is left.
        """
        loss = self.course(LOSS, None)
        below = np.flatnonzero(loss.values.mean(axis=0) < np.mean(self.unigram_nats))
        if not len(below) or len(self.steps) - below[0] < _FEWEST_STEPS:
            when = f"from step {loss.steps[below[0]]} on only" if len(below) else "at no step"
            raise RunFailed(
                f"{self.name} predicts better than word frequencies do {when}, which leaves too few steps to read "
                f"({loss.values[:, -1].mean():.2f} nats at the end against {np.mean(self.unigram_nats):.2f})",
                kept="the series and what was measured in it are kept",
                remedy="give a text with word order to learn, or more of it",
            )
        return loss.steps[below[0]]


@dataclass(frozen=True)
class Subjects:
    """What a claim compares: kinds of models, and what a reader must know of them."""

    models: tuple[Subject, ...]
    notes: tuple[str, ...]


Courses = Callable[[Subject], Sequence[Course]]
"""Read one curve per layer off a kind of model."""


def smallest(subjects: Sequence[Subject], courses: Courses) -> tuple[float, ...]:
    """The smaller of fall and rise per repetition: the mean over layers, of the kind of model in which it is least."""
    by_kind = [
        np.mean([[found.size for found in course.rebounds()] for course in courses(subject)], axis=0)
        for subject in subjects
    ]
    return tuple(min(map(float, sizes)) for sizes in zip(*by_kind, strict=False))  # as many as all kinds have


def in_random_order(subjects: Sequence[Subject], courses: Courses) -> tuple[float, ...]:
    """The same number where the saved steps of every curve are shuffled, meaned over many orders."""

    def reordered(subject: Subject, order: int) -> list[Course]:
        return [course.in_random_order(order) for course in courses(subject)]

    sizes = [smallest(subjects, lambda subject, n=order: reordered(subject, n)) for order in range(NUM_ORDERS)]
    return tuple(map(float, np.mean(sizes, axis=0)))


def subjects(workspace: Workspace) -> Subjects:
    """The series of the workspace's profile, measured; what is there already is neither trained nor measured again.

    Raises:
        Unreachable: there is no network to read published ones.
        BadInput, RunFailed: they cannot be had for another reason.
    """
    return _trained(workspace) if workspace.profile is Profile.QUICK else _published(workspace)


@dataclass(frozen=True)
class SeriesWork:
    """Train one series and measure it, in a process of its own.

    Args:
        recipe: the series.
        tokens_path: its text (``save_tokens``).
        tokenizer_path: the ``tokenizer.json`` that numbered it.
        folder: of the series.
    """

    recipe: SeriesRecipe
    tokens_path: Path
    tokenizer_path: Path
    folder: Path

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.name

    @property
    def num_steps(self) -> int:
        """Training steps, and what measuring is worth in them."""
        return self.recipe.num_steps + _STEPS_A_MEASUREMENT * len(self.recipe.saved_steps())

    @property
    def is_done(self) -> bool:
        """Whether all is there, so that no process has to be started for it."""
        path = self.folder / _MEASURED / FILE
        return path.exists() and path.read_bytes().count(b"\n") > len(self.recipe.saved_steps())

    def do(self, report: Callable[[int, int], None] | None) -> tuple[tuple[StepResult, ...], float]:
        """Return the results of every saved step, and the loss of word frequencies alone on the probe."""
        from joma.train.series import train_series
        from joma.train.vocabulary import load_tokens

        tell = (lambda done: None) if report is None else (lambda done: report(done, self.num_steps))
        tokens, tokenizer = load_tokens(self.tokens_path), self.tokenizer_path.read_text(encoding="utf-8")
        train_series(self.recipe, tokens, tokenizer, self.folder, progress=lambda done, _: tell(done))
        probe = tokens.held_out[: NUM_PROBES * self.recipe.length].view(NUM_PROBES, -1)
        results = measured(
            open_series(self.folder),
            probe,
            self.folder / _MEASURED,
            lambda done: tell(self.recipe.num_steps + _STEPS_A_MEASUREMENT * done),
        )
        if failed := [result for result in results if not result.ok]:
            raise RunFailed(
                f"step {failed[0].step} of {self.folder} cannot be measured ({failed[0].reason})",
                kept="the other steps are kept",
                remedy=failed[0].remedy,
            )
        return results, unigram_nats(tokens.train, probe, len(tokens.vocabulary))


def measured(series: Series, probe: Tensor, folder: Path, report: Callable[[int], None]) -> tuple[StepResult, ...]:
    """Measure every step of a series that is not measured yet; one that fails is a result too.

    Raises:
        Unreachable: the hub does not answer any more; the steps before are kept.
    """
    plan = Plan(series, choose_measures([ENTROPY, RANK, LOSS]), probe)
    store = ScanStore(folder, plan.settings | {"source": Path(series.source).name})
    for done, step in enumerate(series.steps):
        report(done)
        if not is_current(series, store.results.get(step)):
            result = measure_step(plan, step)
            if not result.ok:
                open_series(series.source)  # says so where not the step is at fault: a hub that has gone meanwhile
            store.append(result)
    report(len(series.steps))
    return tuple(store.results[step] for step in series.steps)


def unigram_nats(train: Tensor, probe: Tensor, vocabulary_size: int) -> float:
    """Loss, in nats per token, of predicting each token of the probe by how often it comes in training."""
    counts = np.bincount(train.numpy(), minlength=vocabulary_size) + 1.0  # none must cost infinitely much
    return float(-np.log(counts / counts.sum())[probe[:, 1:].numpy()].mean())


def _trained(workspace: Workspace) -> Subjects:
    from joma.train.jobs import do_all
    from joma.train.vocabulary import load_tokens, require_tokens

    tokens_path, tokenizer_path = _text(workspace)
    tokens, seeds = load_tokens(tokens_path), workspace.seeds(NUM_SEEDS)
    require_tokens(tokens, TRAINED.batch_size, TRAINED.length, NUM_PROBES)
    works = [
        SeriesWork(
            replace(TRAINED, family=family, seed=seed),
            tokens_path,
            tokenizer_path,
            workspace.folder / "series" / f"{family}_seed-{seed}",
        )
        for family in NAMES
        for seed in seeds
    ]
    num_workers = 1 if all(work.is_done for work in works) else os.cpu_count() or 1
    found = do_all(works, f"training and measuring {len(works)} series", num_workers, workspace.progress)
    models = []
    for family, name in NAMES.items():
        of_family = [number for number, work in enumerate(works) if work.recipe.family == family]
        scans, unigrams = zip(*(found[number] for number in of_family), strict=True)
        sources = tuple(open_series(works[number].folder) for number in of_family)
        models.append(Subject(name, scans, unigrams, sources))
    notes = (
        f"Text: {tokens.description}.",
        f"{TRAINED.num_steps} steps of AdamW at {TRAINED.learning_rate:g}, batches of {TRAINED.batch_size} × "
        f"{TRAINED.length} tokens, {TRAINED.num_layers} layers of width {TRAINED.width}, {TRAINED.num_heads} heads; "
        f"{len(models[0].steps)} saved steps, read on {NUM_PROBES} held-out sequences. The learning rate was chosen by "
        "the loss alone.",
        "--profile full reads published series from the hub instead.",
    )
    return Subjects(tuple(models), notes)


def _text(workspace: Workspace) -> tuple[Path, Path]:
    """The text and its tokenizer, learned from it unless one was named, on disk."""
    from joma.files import replacing
    from joma.train.text import read_text
    from joma.train.tokenizers import learned_tokenizer, load_tokenizer
    from joma.train.vocabulary import save_tokens, tokenize

    folder = workspace.folder / "series" / "text"
    tokens_path, tokenizer_path = folder / "text.safetensors", folder / "tokenizer.json"
    if not tokens_path.exists():
        workspace.progress("learning a tokenizer", 0, 1)
        text, named = read_text(workspace.text.source), workspace.text.tokenizer
        if named is None:
            content = learned_tokenizer(text.train, workspace.text.vocabulary_size or VOCABULARY_SIZE)
        else:
            tokenizer = load_tokenizer(named)
            if not tokenizer.is_fast:
                raise BadInput(
                    f"the tokenizer {named!r} has no tokenizer.json",
                    expected="one that every saved step can carry",
                    remedy="name another, or leave it out",
                )
            content = tokenizer.backend_tokenizer.to_str()
        with replacing(tokenizer_path) as temporary:
            temporary.write_text(content, encoding="utf-8")
        save_tokens(tokenize(text, None, str(tokenizer_path), keep_ids=True), tokens_path)
    return tokens_path, tokenizer_path


def _published(workspace: Workspace) -> Subjects:
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
            if len(steps) < _FEWEST_STEPS:
                has = f"{len(steps)} of the {len(PUBLISHED_STEPS)} steps read here" if series.numbered else "one step"
                notes.append(f"{name} is left out: {source} has {has}, and a curve takes at least {_FEWEST_STEPS}.")
                continue
            opened.setdefault(name, []).append(open_series(source, steps=steps))
    if not opened:
        raise RunFailed(
            f"no series can be read ({' '.join(notes)})", kept="nothing was read", remedy="take --profile quick"
        )
    if len(opened) < len(PUBLISHED):
        notes.append(f"All that is found is of {' and '.join(opened)} alone.")
    models = []
    for name, series in opened.items():
        subject, told = _published_subject(workspace, name, series)
        models.append(subject)
        notes += told
    return Subjects(tuple(models), tuple(notes))


def _published_subject(workspace: Workspace, name: str, sources: Sequence[Series]) -> tuple[Subject, list[str]]:
    """Trainings of one recipe, read on one probe, at the steps that can be read in all of them."""
    from joma.train.text import read_text
    from joma.train.vocabulary import require_tokens, tokenize

    tokens = tokenize(read_text(workspace.text.source), None, sources[0].source, keep_ids=True)
    require_tokens(tokens, 1, PUBLISHED_LENGTH, PUBLISHED_PROBES)
    probe = tokens.held_out[: PUBLISHED_PROBES * PUBLISHED_LENGTH].view(PUBLISHED_PROBES, -1)
    scans, failed = [], []
    for series in sources:
        folder = workspace.folder / "series" / series.source.replace("/", "_")
        what, num = f"reading {series.source}", len(series.steps)
        results = measured(series, probe, folder, lambda done, w=what, n=num: workspace.progress(w, done, n))
        scans.append({result.step: result for result in results if result.ok})
        failed += [(series.source, result) for result in results if not result.ok]
    steps = [step for step in PUBLISHED_STEPS if all(step in scan for scan in scans)]
    if len(steps) < _FEWEST_STEPS:
        source, first = failed[0]
        raise RunFailed(
            f"only {len(steps)} steps of {name} can be read (step {first.step} of {source}: {first.reason})",
            kept="what was measured is kept",
            remedy=first.remedy,
        )
    seeds = f"{len(sources)} trainings that differ in their seed"
    if len(sources) == 1:
        seeds = "one training; groups of the probe sequences stand for repetitions, of which the rank has none"
    notes = [
        f"{name}: {seeds} ({', '.join(series.source for series in sources)}), {len(steps)} saved steps, read on "
        f"{PUBLISHED_PROBES} held-out sequences of {PUBLISHED_LENGTH} tokens.",
        *(f"{name}: step {result.step} is left out, in {source} {result.reason}." for source, result in failed),
    ]
    whole = tuple(tuple(scan[step] for step in steps) for scan in scans)
    unigram = unigram_nats(tokens.train, probe, len(tokens.vocabulary))
    return Subject(name, whole, (unigram,) * len(whole), tuple(sources)), [f"Text: {tokens.description}.", *notes]
