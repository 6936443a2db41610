"""What a claim works with: its profile and seeds, the text, trained networks, a place to say how far it is."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from joma.errors import BadInput
from joma.progress import Progress, silent

if TYPE_CHECKING:
    from joma.problem.tree import Law
    from joma.train.recipes import Recipe
    from joma.train.run import Run
    from joma.train.text.vocabulary import Tokens


class Profile(StrEnum):
    """How much work a claim may do."""

    QUICK = "quick"  # all claims within five minutes on two cores
    FULL = "full"  # the paper's sizes; hours


VOCABULARY_SIZES = {Profile.QUICK: 1000, Profile.FULL: 4000}


@dataclass(frozen=True)
class TextChoice:
    """Which text networks learn, and cut up how.

    Args:
        source: a file, a folder, ``wikitext2``, ``wikitext103``; ``None`` is the text that ships with Python.
        vocabulary_size: the commonest words kept; ``None`` leaves it to the profile.
        tokenizer: a Hugging Face tokenizer by name or file, in place of words.
    """

    source: str | None = None
    vocabulary_size: int | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class Workspace:
    """Handed to a claim's test.

    >>> from pathlib import Path
    >>> import joma
    >>> workspace = joma.Workspace(Path("joma-out"), num_seeds=3)
    >>> list(workspace.seeds(default=5))
    [0, 1, 2]

    Args:
        folder: where texts and trained networks are kept; what one claim trained serves the next.
        profile: how much work to do.
        num_seeds: how many repetitions; ``None`` leaves it to the claim.
        text: what networks learn.
        progress: called as long work goes on.
    """

    folder: Path
    profile: Profile = Profile.QUICK
    num_seeds: int | None = None
    text: TextChoice = TextChoice()
    progress: Progress = field(default=silent, repr=False)

    def seeds(self, default: int) -> range:
        """The seeds to use: 0, 1, … as many as were asked for, or ``default``."""
        return range(default if self.num_seeds is None else self.num_seeds)

    def tokens(self) -> Tokens:
        """The text as a network reads it; read and cut up once per folder, and again if the file is damaged.

        Raises:
            BadInput: the text cannot be read, or is too short for the networks of the paper's Figure 6.
        """
        from joma.train.recipes import Recipe
        from joma.train.text.reading import read_text
        from joma.train.text.vocabulary import load_tokens, require_tokens, save_tokens, tokenize

        path = self._tokens_path("text")
        if path.exists():
            try:
                return load_tokens(path)
            except BadInput as damage:
                warnings.warn(f"{damage.problem}: the text is read again", stacklevel=2)
        self.progress("reading the text", 0, 1)
        size = self.text.vocabulary_size
        if size is None and self.text.tokenizer is None:
            size = VOCABULARY_SIZES[self.profile]
        tokens = tokenize(read_text(self.text.source), size, self.text.tokenizer)
        require_tokens(tokens, Recipe.batch_size, Recipe.length, Recipe.num_probe_sequences)
        save_tokens(tokens, path)
        return tokens

    def train(self, wanted: Sequence[tuple[Recipe, bool]]) -> list[Run]:
        """Train what is not trained yet, as many networks at a time as there are cores.

        Args:
            wanted: complete descriptions, whose names become folder names, and with each whether it learns the
                text's words in random order (another order for every seed).
        """
        from joma.train.jobs import train_all
        from joma.train.text.vocabulary import save_tokens, shuffled

        tokens = self.tokens()
        jobs = []
        for recipe, shuffle_words in wanted:
            path = self._tokens_path(f"shuffled_{recipe.seed}" if shuffle_words else "text")
            if not path.exists():
                save_tokens(shuffled(tokens, recipe.seed), path)
            jobs.append((recipe, path, self._run_folder(recipe)))
        return train_all(jobs, num_workers=os.cpu_count() or 1, progress=self.progress)

    def train_on(self, wanted: Sequence[tuple[Recipe, Law]]) -> list[Run]:
        """Learn the labels of laws, where a network has not yet, as many at a time as there are cores.

        Args:
            wanted: complete descriptions, whose names become folder names, and with each what it learns.
        """
        from joma.problem.tree import digest
        from joma.train.hierarchies import save_law
        from joma.train.jobs import train_all

        jobs = []
        for recipe, law in wanted:
            path = self.folder / "laws" / f"{digest(law)[:16]}.json"
            save_law(law, path)
            jobs.append((recipe, path, self._run_folder(recipe)))
        return train_all(jobs, num_workers=os.cpu_count() or 1, progress=self.progress)

    def _run_folder(self, recipe: Recipe) -> Path:
        return self.folder / "runs" / recipe.name.replace(" ", "_").replace(",", "")

    def _tokens_path(self, name: str) -> Path:
        return self.folder / "text" / f"{name}.safetensors"
