"""The workspace of a claim: profile, seeds, text, trained networks and a progress callback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from joma.progress import Progress, silent

if TYPE_CHECKING:
    from joma.problem.tree import Law
    from joma.train.images.pictures import Pictures
    from joma.train.jobs import Job
    from joma.train.recipes import Recipe
    from joma.train.run import Run
    from joma.train.text.vocabulary import Tokens


class Profile(StrEnum):
    """How much work a claim may do."""

    QUICK = "quick"  # the claims by default together take five minutes on two cores
    FULL = "full"  # the paper's sizes; takes hours


Words = Literal["in order", "shuffled", "uniform"]
"""What a network is trained on: the words of the text in order or in random order, or random words, equally likely."""

DATA = {
    "images": "a folder of images with a table of their parts",
    "fashion": "the folder of Fashion-MNIST's four files",
    "ratings": "a table of ratings: user, item, value, time",
    "table": "a table of numbers and categories",
}
"""Data of the user's own that claims can be tested on, instead of those that extras of joma install."""

VOCABULARY_SIZES = {Profile.QUICK: 1000, Profile.FULL: 4000}


@dataclass(frozen=True)
class TextChoice:
    """The text that networks are trained on, and how it is tokenised.

    Args:
        source: a file, a folder, ``wikitext2`` or ``wikitext103``; ``None`` for the text that ships with Python.
        vocabulary_size: number of most frequent words to keep; ``None`` for the default of the profile.
        tokenizer: name or file of a Hugging Face tokenizer to use instead of words.
    """

    source: str | None = None
    vocabulary_size: int | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class Workspace:
    """Settings and services for the test of a claim, passed as its only argument.

    >>> from pathlib import Path
    >>> import joma
    >>> workspace = joma.Workspace(Path("joma-out"), num_seeds=3)
    >>> list(workspace.seeds(default=5))
    [0, 1, 2]

    Args:
        folder: the folder for texts and trained networks; claims share the networks in it.
        profile: how much work to do.
        num_seeds: number of repetitions; ``None`` for the default of each claim.
        text: the text that networks are trained on.
        device: where networks are trained: ``cpu``, or ``auto`` for an accelerator where there is one.
        num_workers: networks trained at a time; ``None`` for the number of processors.
        data: files and folders of the user by name (``DATA``), in place of what extras of joma install.
        progress: called repeatedly during long computations.
    """

    folder: Path
    profile: Profile = Profile.QUICK
    num_seeds: int | None = None
    text: TextChoice = TextChoice()
    device: Literal["cpu", "auto"] = "cpu"
    num_workers: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = field(default=silent, repr=False)

    def seeds(self, default: int) -> range:
        """Return the seeds 0, 1, …: ``num_seeds`` of them, or ``default`` if that is ``None``."""
        return range(default if self.num_seeds is None else self.num_seeds)

    def tokens(self) -> Tokens:
        """Return the tokenised text; it is tokenised once per folder, and again if the saved file is damaged.

        Raises:
            BadInput: the text cannot be read, or is too short for the networks of the paper's Figure 6.
        """
        from joma.train.recipes import Recipe
        from joma.train.text.reading import read_text
        from joma.train.text.vocabulary import kept_tokens, require_tokens, tokenize

        def make() -> Tokens:
            self.progress("opening the text", 0, 1)
            size = self.text.vocabulary_size
            if size is None and self.text.tokenizer is None:
                size = VOCABULARY_SIZES[self.profile]
            tokens = tokenize(read_text(self.text.source), size, self.text.tokenizer, progress=self.progress)
            require_tokens(tokens, Recipe.batch_size, Recipe.length, Recipe.num_probe_sequences)
            return tokens

        return kept_tokens(self._tokens_path("text"), make)

    def train(self, wanted: Sequence[tuple[Recipe, Words]]) -> list[Run]:
        """Train networks on the text, ``num_workers`` at a time; those that are in the folder already are reused.

        Args:
            wanted: recipes, whose names become folder names, each with what it is trained on: the words of the text
                ``in order``, ``shuffled``, or ``uniform`` random words instead (with the recipe's seed).
        """
        from joma.train.text.vocabulary import save_tokens, shuffled, uniform

        tokens = self.tokens()
        jobs = []
        for recipe, words in wanted:
            path = self._tokens_path("text" if words == "in order" else f"{words}_{recipe.seed}")
            if not path.exists():
                changed = {"shuffled": shuffled, "uniform": uniform}[words]
                save_tokens(changed(tokens, recipe.seed), path)
            jobs.append((recipe, path))
        return self._train(jobs)

    def train_on_tokens(self, wanted: Sequence[tuple[Recipe, Tokens]]) -> list[Run]:
        """Train networks on other sequences of tokens than the text; finished ones are reused.

        Args:
            wanted: recipes, whose names become folder names, each with the tokens to learn.
        """
        from joma.train.text.vocabulary import kept_tokens

        jobs = []
        for recipe, tokens in wanted:
            path = self._tokens_path(tokens.digest)
            kept_tokens(path, lambda tokens=tokens: tokens)
            jobs.append((recipe, path))
        return self._train(jobs)

    def train_on(self, wanted: Sequence[tuple[Recipe, Law]]) -> list[Run]:
        """Train networks to predict the labels of laws, ``num_workers`` at a time; finished ones are reused.

        Args:
            wanted: recipes, whose names become folder names, each with the law to learn.
        """
        from joma.problem.tree import digest
        from joma.train.hierarchies import save_law

        jobs = []
        for recipe, law in wanted:
            path = self.folder / "laws" / f"{digest(law)[:16]}.json"
            save_law(law, path)
            jobs.append((recipe, path))
        return self._train(jobs)

    def train_on_pictures(self, wanted: Sequence[tuple[Recipe, Pictures]]) -> list[Run]:
        """Train networks to predict the labels of pictures, ``num_workers`` at a time; finished ones are reused.

        Args:
            wanted: recipes, whose names become folder names, each with the pictures to learn.
        """
        from joma.train.images.pictures import SUFFIX, save_pictures

        jobs = []
        for recipe, pictures in wanted:
            path = self.folder / "pictures" / f"{pictures.digest[:16]}{SUFFIX}"
            if not path.exists():
                save_pictures(pictures, path)
            jobs.append((recipe, path))
        return self._train(jobs)

    def _train(self, wanted: Sequence[tuple[Recipe, Path]]) -> list[Run]:
        jobs: list[Job] = []
        for recipe, path in wanted:
            here = recipe if self.device == "cpu" else replace(recipe, device=self.device)
            jobs.append((here, path, self.folder / "runs" / recipe.name.replace(" ", "_").replace(",", "")))
        return self._runs(jobs)

    def _runs(self, jobs: Sequence[Job]) -> list[Run]:
        from joma.train.jobs import train_all

        return train_all(jobs, num_workers=self.num_workers, progress=self.progress)

    def _tokens_path(self, name: str) -> Path:
        return self.folder / "text" / f"{name}.safetensors"


class NotTrained(BaseException):
    """A claim asks for networks that are not trained yet; no error, so that no claim takes it for one.

    Args:
        jobs: the networks.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__(f"{len(jobs)} networks are not trained")
        self.jobs = tuple(jobs)


@dataclass(frozen=True)
class Planned(Workspace):
    """A workspace in which networks are trained ahead, together with those of other claims.

    Args:
        trained: the networks that have been trained; before that ``None``, and a claim that asks for networks raises
            ``NotTrained``.
    """

    trained: Mapping[Job, Run] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, workspace: Workspace, trained: Mapping[Job, Run] | None = None) -> Planned:
        """Return the same workspace with networks trained ahead."""
        same = {each.name: getattr(workspace, each.name) for each in fields(Workspace)}
        return cls(**same, trained=trained)

    def _runs(self, jobs: Sequence[Job]) -> list[Run]:
        if self.trained is None:
            if jobs:
                raise NotTrained(jobs)
            return []
        missing = iter(super()._runs([job for job in jobs if job not in self.trained]))
        return [self.trained[job] if job in self.trained else next(missing) for job in jobs]
