"""The checkpoint series that two claims read: trained here on real text in ``quick``, published ones in ``full``.

Both are read as any series of saved steps is, by ``joma.measure``: from the files alone, step by step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from joma.claims.series.published import published
from joma.claims.series.subject import NUM_SEEDS, Subject, Subjects, measured
from joma.claims.text.networks import unigram_nats
from joma.claims.workspace import Profile, Workspace
from joma.errors import BadInput, RunFailed
from joma.measure.scan.results import FILE, StepResult
from joma.progress import Progress, part_of
from joma.saved.series import open_series
from joma.train.series import SeriesRecipe

NAMES = {"gpt_neox": "GPT-NeoX", "opt": "OPT"}

VOCABULARY_SIZE = 512
NUM_PROBES = 8
TRAINED = SeriesRecipe(num_steps=400, save_every=25, learning_rate=3e-3, num_layers=2)
"""Learning rate by the loss after 300 steps alone (1e-3, 3e-3 and 1e-2 tried on either family, before any entropy or
rank was looked at); the other sizes by the time there is."""

_MEASURED = "measured"
_TRAINING = 0.75  # its share of the time, the rest is measuring: for progress alone


def subjects(workspace: Workspace) -> Subjects:
    """The series of the workspace's profile, measured; what is there already is neither trained nor measured again.

    Raises:
        Unreachable: there is no network to read published ones.
        BadInput, RunFailed: they cannot be had for another reason.
    """
    return _trained(workspace) if workspace.profile is Profile.QUICK else published(workspace)


@dataclass(frozen=True)
class SeriesWork:
    """Train one series and measure it, in a process of its own.

    Args:
        recipe: the series.
        tokens_path: its text (``save_tokens``).
        tokenizer_path: the ``tokenizer.json`` that numbered it.
        folder: of the series.
        device: where it trains.
    """

    recipe: SeriesRecipe
    tokens_path: Path
    tokenizer_path: Path
    folder: Path
    device: Literal["cpu", "auto"] = "cpu"

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.name

    @property
    def is_done(self) -> bool:
        """Whether all is there, so that no process has to be started for it."""
        path = self.folder / _MEASURED / FILE
        return path.exists() and path.read_bytes().count(b"\n") > len(self.recipe.saved_steps())

    def do(self, progress: Progress) -> tuple[tuple[StepResult, ...], float]:
        """Return the results of every saved step, and the loss of word frequencies alone on the probe."""
        from joma.train.series import train_series
        from joma.train.text.vocabulary import load_tokens

        tokens, tokenizer = load_tokens(self.tokens_path), self.tokenizer_path.read_text(encoding="utf-8")
        training = part_of(progress, self.name, 0, _TRAINING, 1)
        measuring = part_of(progress, self.name, _TRAINING, 1 - _TRAINING, 1)
        train_series(self.recipe, tokens, tokenizer, self.folder, device=self.device, progress=training)
        probe = tokens.held_out[: NUM_PROBES * self.recipe.length].view(NUM_PROBES, -1)
        results = measured(open_series(self.folder), probe, self.folder / _MEASURED, measuring)
        if failed := [result for result in results if not result.ok]:
            raise RunFailed(
                f"step {failed[0].step} of {self.folder} cannot be measured ({failed[0].reason})",
                kept="the other steps are kept",
                remedy=failed[0].remedy,
            )
        return results, unigram_nats(tokens, probe[:, 1:])


def _trained(workspace: Workspace) -> Subjects:
    from joma.train.jobs import do_all
    from joma.train.text.vocabulary import load_tokens, require_tokens

    tokens_path, tokenizer_path = _text(workspace)
    tokens, seeds = load_tokens(tokens_path), workspace.seeds(NUM_SEEDS)
    require_tokens(tokens, TRAINED.batch_size, TRAINED.length, NUM_PROBES)
    works = [
        SeriesWork(
            replace(TRAINED, family=family, seed=seed),
            tokens_path,
            tokenizer_path,
            workspace.folder / "series" / f"{family}_seed-{seed}",
            workspace.device,
        )
        for family in NAMES
        for seed in seeds
    ]
    num_workers = 1 if all(work.is_done for work in works) else workspace.num_workers
    found = do_all(
        works, f"training and measuring {len(works)} series", num_workers=num_workers, progress=workspace.progress
    )
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
    from joma.train.text.reading import read_text
    from joma.train.text.tokenizers import learned_tokenizer, load_tokenizer
    from joma.train.text.vocabulary import save_tokens, tokenize

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
