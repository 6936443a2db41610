"""The checkpoint series of the claims on series: trained here on text in ``quick``, published ones in ``full``.

Both are measured by ``joma.measure`` from the files alone, like any series of saved steps.
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
from joma.train.series import SeriesRecipe, step_folder

NAMES = {"gpt_neox": "GPT-NeoX", "opt": "OPT"}

VOCABULARY_SIZE = 512
NUM_PROBES = 8
TRAINED = SeriesRecipe(num_steps=400, save_every=25, learning_rate=3e-3, num_layers=2)
"""The learning rate was chosen by the loss after 300 steps (1e-3, 3e-3 and 1e-2 on both families, before any entropy
or rank was measured), the other sizes by the time that training takes."""

_MEASURED = "measured"
_TRAINING = 0.75  # share of the time that training takes, for progress only; the rest is measuring


def subjects(workspace: Workspace) -> Subjects:
    """Return the measured series of the workspace's profile; what exists is neither trained nor measured again.

    Raises:
        Unreachable: published series cannot be read without a network.
        BadInput, RunFailed: series cannot be read or trained for another reason.
    """
    return _trained(workspace) if workspace.profile is Profile.QUICK else published(workspace)


@dataclass(frozen=True)
class SeriesWork:
    """Train one series and measure it, in its own process.

    Args:
        recipe: the recipe of the series.
        tokens_path: its text (``save_tokens``).
        tokenizer_path: the ``tokenizer.json`` that tokenised the text.
        folder: the folder of the series.
        device: the device it is trained on.
    """

    recipe: SeriesRecipe
    tokens_path: Path
    tokenizer_path: Path
    folder: Path
    device: Literal["cpu", "auto"] = "cpu"

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @property
    def is_done(self) -> bool:
        """Whether all steps are there and measured."""
        path, steps = self.folder / _MEASURED / FILE, self.recipe.saved_steps()
        is_measured = path.exists() and path.read_bytes().count(b"\n") > len(steps)
        return is_measured and all(step_folder(self.folder, step).is_dir() for step in steps)

    def do(self, progress: Progress) -> tuple[tuple[StepResult, ...], float]:
        """Return the results of every saved step, and the loss of predicting the probe from word frequencies."""
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

    tokens_path, tokenizer_path = text_of_series(workspace)
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


def text_of_series(workspace: Workspace) -> tuple[Path, Path]:
    """The files of the tokens and of the tokenizer, which is trained on the text unless one is given."""
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
                    expected="a tokenizer that can be saved with every step",
                    remedy="name another one, or leave it out",
                )
            content = tokenizer.backend_tokenizer.to_str()
        with replacing(tokenizer_path) as temporary:
            temporary.write_text(content, encoding="utf-8")
        save_tokens(tokenize(text, None, str(tokenizer_path), keep_ids=True), tokens_path)
    return tokens_path, tokenizer_path
