"""The folder of a sweep: the settings that all its runs share, its texts, and what became of each run.

settings.json, text/, runs/<name>/ (as every training run), outcomes.jsonl
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from joma.errors import BadInput
from joma.files import read_json, write_json
from joma.journal import append_line, line_of
from joma.progress import Progress
from joma.train.recipes import Recipe
from joma.train.sweeps.outcomes import OUTCOMES, Outcome, read_outcomes
from joma.train.text.reading import Text
from joma.train.text.vocabulary import Splitting, Tokens, kept_tokens, tokenize

_SETTINGS, _DIGEST = "settings.json", "text_digest"
_ANOTHER = "choose another `out`, or remove this folder"


@dataclass(frozen=True)
class SweepFolder:
    """The files of a sweep in ``path``."""

    path: Path

    @property
    def is_claimed(self) -> bool:
        """Whether the folder holds the settings of a sweep."""
        return (self.path / _SETTINGS).exists()

    @property
    def text_digest(self) -> str | None:
        """The digest of the text with which the sweep began; ``None`` if the folder does not hold one."""
        return self._settings().get(_DIGEST) if self.is_claimed else None

    def claim(self, settings: Mapping[str, Any], text_digest: str | None) -> None:
        """Write the settings into a new folder, or check that the folder holds a sweep with the same ones.

        Args:
            settings: that all runs share.
            text_digest: of the text, which ``check`` does not compare: not every start reads the text.

        Raises:
            BadInput: as ``check``.
        """
        self.check(settings)
        if not self.is_claimed:
            write_json(self.path / _SETTINGS, {**settings, _DIGEST: text_digest})

    def check(self, settings: Mapping[str, Any]) -> None:
        """Check that the folder is empty or holds a sweep with the same settings; nothing is written.

        Raises:
            BadInput: it holds another sweep, or something else.
        """
        if self.is_claimed:
            there = self._settings()
            there.pop(_DIGEST, None)
            for name in [name for name in {**there, **settings} if there.get(name) != settings.get(name)]:
                problem = f"{self.path} holds another sweep ({name}: {there.get(name)}, not {settings.get(name)})"
                raise BadInput(problem, expected="a folder for each sweep", remedy=_ANOTHER)
            return
        if others := [entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")]:
            problem = f"{self.path} contains other files ({others[0]})"
            raise BadInput(problem, expected="an empty folder, or one of the same sweep", remedy=_ANOTHER)

    def _settings(self) -> dict[str, Any]:
        path, expected = self.path / _SETTINGS, "the settings of a sweep"
        return read_json(path, dict[str, Any], expected=expected, remedy=_ANOTHER)

    def run(self, recipe: Recipe) -> Path:
        """Return the folder of a run."""
        return self.path / "runs" / recipe.name

    def tokens(
        self, read: Callable[[], Text], size: int | None, splitting: Splitting, progress: Progress
    ) -> tuple[Tokens, Path]:
        """Return the text with a vocabulary of some size, and its file; it is read and tokenised once.

        In a folder that is not claimed yet, the file is not written.
        """
        path = self.path / "text" / f"{'all' if size is None else size}-words.safetensors"

        def make() -> Tokens:
            return tokenize(read(), size, splitting=splitting, progress=progress)

        return (kept_tokens(path, make) if self.is_claimed else make()), path

    def record(self, outcome: Outcome) -> None:
        """Append an outcome, so that it is kept if this process is killed."""
        append_line(self.path / OUTCOMES, line_of(asdict(outcome)))

    def recorded(self, runs: Collection[str]) -> dict[str, Outcome]:
        """Return the last outcome of each of the runs that has one; damaged lines are left out."""
        path = self.path / OUTCOMES
        found, end = read_outcomes(path)
        if path.exists() and path.stat().st_size > end:
            os.truncate(path, end)  # a process was killed, or the disk was full, within a line
        return {run: outcome for run, outcome in found.items() if run in runs}
