"""The work of a sweep: from what was asked for to trained runs, their table and the record of what was done."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas

from joma.claims.text.networks import unigram_nats
from joma.devices import device_of
from joma.errors import BadInput, DiskFull
from joma.files import write_json
from joma.progress import Progress, part_of
from joma.provenance import versions
from joma.records import Measurement
from joma.report.live import Row
from joma.tidy import frame_of
from joma.train.loop import writing
from joma.train.recipes import Recipe
from joma.train.run import Run
from joma.train.sweeps.folder import SweepFolder
from joma.train.sweeps.grids import Grid, Interval, Point
from joma.train.sweeps.outcomes import Outcome
from joma.train.sweeps.recipes import PROFILES, against_paper, recipes_of
from joma.train.sweeps.running import standing_of, train_runs
from joma.train.sweeps.search import Search, require_search
from joma.train.tasks import streams_of
from joma.train.text.reading import BUILT_IN, Text, is_known_text, read_text
from joma.train.text.vocabulary import Tokens, require_tokens, save_tokens
from joma.workers import Engine

COLUMNS = ("learning_rate", "num_layers", "seed")
"""The settings that every table of a sweep has; those that are swept follow."""

MOST_RUNS = 1_000
"""The number of runs that a sweep has at most without ``yes``."""


@dataclass(frozen=True)
class Plan:
    """What a sweep is to do.

    Args:
        recipe, profile: names of the sweep and of its profile.
        grid: the points.
        num_seeds: repetitions of each point; ``None`` if the points name their seeds.
        text: the text; ``None`` for the one that ships with Python.
        search: points to sample from the grid; ``None`` for all.
        device, engine, workers, keep: see ``joma.studies.sweep.SweepSettings``.
    """

    recipe: str
    profile: str
    grid: Grid
    num_seeds: int | None
    text: str | None
    search: int | None = None
    device: Literal["cpu", "auto"] = "cpu"
    engine: Engine = "processes"
    workers: int | None = None
    keep: bool = False

    @property
    def num_runs(self) -> int:
        """The number of runs."""
        return (self.search or len(self.grid)) * (self.num_seeds or 1)

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings of runs in the table."""
        return tuple(dict.fromkeys((*COLUMNS, *self.grid.names)))

    def with_seeds(self, point: Point) -> list[Point]:
        """Return the point once for each seed."""
        return [point] if self.num_seeds is None else [point | {"seed": seed} for seed in range(self.num_seeds)]

    def command(self, folder: Path) -> str:
        """Return the command that makes the sweep again."""
        given: dict[str, Any] = {"profile": self.profile, "text": self.text, "seeds": self.num_seeds}
        given |= {"search": self.search, "device": self.device, "out": folder}
        defaults = {"text": PROFILES[self.profile].text, "device": "cpu"}
        options = [(name, value) for name, value in given.items() if value not in (None, defaults.get(name))]
        options[1:1] = [("over", word) for word in self.grid.words]
        words = [word for name, value in options for word in (f"--{name}", str(value))]
        meant = ["--yes"] if self.num_runs > MOST_RUNS else []
        return shlex.join(["joma", "sweep", self.recipe, *words, *meant])


class Sweeping:
    """A sweep in its folder, which no other process uses.

    Args:
        plan: what to do.
        path: the folder, which exists.
        progress: called while the text is read.

    Raises:
        BadInput: the folder holds another sweep or one of another text, or settings and text do not fit together.
    """

    def __init__(self, plan: Plan, path: Path, progress: Progress) -> None:
        self.plan, self.folder = plan, SweepFolder(path)
        self.recipes: dict[str, Recipe] = {}
        self.outcomes: dict[str, Outcome] = {}
        shared = {name: getattr(plan, name) for name in ("recipe", "profile", "text", "device")}
        shared |= {"search": list(plan.grid.words)} if plan.search else {}
        self.folder.check(shared)
        self._texts = _Texts(plan, self.folder, progress)
        self._texts.require_same()
        if plan.search:
            self._require_texts(plan.search)
        else:
            self._add([seeded for point in plan.grid.points() for seeded in plan.with_seeds(point)])
        with self.writing():  # only now, so that a request that is refused leaves the folder to another one
            self.folder.claim(shared, self._texts.digest)
            self._texts.write()
            if plan.grid.listed and not plan.grid.words:
                write_json(path / "points.json", list(plan.grid.listed))
                self.plan = replace(plan, grid=replace(plan.grid, words=(str(path / "points.json"),)))
            self._search = Search(plan.grid, plan.search, path) if plan.search else None
        for point in self._search.points().values() if self._search else ():
            self._add(plan.with_seeds(point))

    def _require_texts(self, num: int) -> None:
        """Require what a search of ``num`` points needs, and a text with enough words for each of them."""
        axes = self.plan.grid.axes
        require_search(self.plan.grid, num)
        sizes = axes.get("vocabulary_size")
        if sizes is None:
            with self.writing():
                self._texts.num_words(None)
        elif not self.folder.is_claimed:  # by texts that are not kept: the points may have smaller vocabularies
            texts = _Texts(self.plan, self.folder, self._texts.progress)
            texts.num_words(round(sizes.high) if isinstance(sizes, Interval) else max(map(int, sizes)))
            self._texts.digest = texts.digest

    def writing(self) -> AbstractContextManager[None]:
        """Raise ``RunFailed`` if a file of the sweep cannot be written."""
        return writing(self.folder.path, lambda: "all that was trained")

    def train(self, progress: Progress) -> None:
        """Train all runs; those that have outcomes already are only looked at.

        Raises:
            DiskFull: the outcomes so far are kept, and no other run was started.
            KeyboardInterrupt: the outcomes so far are kept.
        """
        try:
            self._train_all(progress)
        except DiskFull as error:
            num = sum(outcome.status == "finished" for outcome in self.outcomes.values())
            raise DiskFull(
                f"the disk is full: {error.problem}",
                kept=f"{self.folder.path} keeps {num} of {self.plan.num_runs} runs finished, and the last checkpoints "
                "of those that began",
                remedy="free disk space and run the same again to continue",
            ) from error

    def _train_all(self, progress: Progress) -> None:
        if self._search is None:
            self._train(list(self.recipes.values()), progress)
            return
        while points := self._asked(self._search):
            recipes = {number: self._add(self.plan.with_seeds(point)) for number, point in points.items()}
            batch = {recipe.name: recipe for of_point in recipes.values() for recipe in of_point}
            num_before = len(self.recipes.keys() - batch.keys())
            what = f"training {len(batch)} of {self.plan.num_runs} networks"
            self._train(list(batch.values()), part_of(progress, what, num_before, len(batch), self.plan.num_runs))
            with self.writing():
                for number, of_point in recipes.items():
                    self._search.report(number, [self._last_loss(recipe) for recipe in of_point])

    def _asked(self, search: Search) -> dict[int, Point]:
        with self.writing():
            return search.ask()

    def _add(self, points: Sequence[Point]) -> list[Recipe]:
        """Add the runs of some points."""
        sizes: set[Any] = {point.get("vocabulary_size") for point in points}
        with self.writing():
            num_words = {size: self._texts.num_words(size) for size in sizes}
        recipes = recipes_of(self.plan.recipe, self.plan.profile, points, num_words, self.plan.device)
        for recipe in recipes:
            require_tokens(self._texts.tokens(recipe), recipe.batch_size, recipe.length, recipe.num_probe_sequences)
        self.recipes |= {recipe.name: recipe for recipe in recipes}
        self.outcomes = self.folder.recorded(self.recipes)
        return recipes

    def _train(self, recipes: Sequence[Recipe], progress: Progress) -> None:
        plan = self.plan
        ordered = sorted(recipes, key=lambda recipe: recipe.seed)  # so that the first seeds show the whole grid
        jobs = [(recipe, self._texts.path(recipe), self.folder.run(recipe)) for recipe in ordered]
        runs = train_runs(jobs, engine=plan.engine, num_workers=plan.workers, keep=plan.keep, progress=progress)
        with redirect_stdout(sys.stderr) if plan.engine == "ray" else nullcontext():  # Ray prints what it loses
            for outcome in runs:
                before = self.outcomes.get(outcome.run)
                if outcome.seconds is None and before and before.status == outcome.status == "finished":
                    continue  # it was finished before, and keeps its time
                self.outcomes[outcome.run] = outcome
                with self.writing():
                    self.folder.record(outcome)

    def _last_loss(self, recipe: Recipe) -> float | None:
        standing = standing_of(self.run(recipe))
        is_finished = self.outcome(recipe).status == "finished"
        return standing.loss if standing and is_finished else None

    def run(self, recipe: Recipe) -> Run:
        """Return a run of the sweep."""
        return Run(self.folder.run(recipe), recipe)

    def outcome(self, recipe: Recipe) -> Outcome:
        """Return what became of a run so far."""
        return self.outcomes.get(recipe.name) or Outcome(recipe.name, "unfinished")

    def rows(self) -> list[Row]:
        """Return the runs that began and have not ended, then those that failed, for a display."""
        found = []
        for recipe in self.recipes.values():
            status = self.outcome(recipe).status
            standing = standing_of(self.run(recipe)) if status != "finished" else None
            if standing:
                word = "failed" if status == "failed" else "training"
                found.append(Row(recipe.name, word, standing.step, recipe.num_steps, standing.loss, standing.entropy))
        return sorted(found, key=lambda row: row.status, reverse=True)

    def table(self) -> pandas.DataFrame:
        """Return all measurements with the settings and the status of their run; a failed run has a row at least."""
        frame = frame_of(row for recipe in self.recipes.values() for row in self._measurements(recipe))
        for name in dict.fromkeys((*self.plan.settings, "num_steps")):
            values = {recipe.name: _setting(recipe, name) for recipe in self.recipes.values()}
            frame[name] = frame["run"].map(values)
        frame["num_epochs"] = frame["run"].map({recipe.name: self._epochs(recipe) for recipe in self.recipes.values()})
        outcomes = {recipe.name: self.outcome(recipe) for recipe in self.recipes.values()}
        for name in ("status", "reason"):
            values = {run: getattr(outcome, name) or None for run, outcome in outcomes.items()}
            frame[name] = frame["run"].map(values).astype("string")
        return frame

    def _epochs(self, recipe: Recipe) -> float:
        """Return the passes over the training text in all steps of a run."""
        return recipe.num_steps / streams_of(recipe, self._texts.tokens(recipe).train).num_windows

    def _measurements(self, recipe: Recipe) -> Iterator[Measurement]:
        probes = self.run(recipe).journal().probes
        for step, rows in probes:
            yield from (Measurement(recipe.name, step, *row) for row in rows if row.group is None)
        if self.outcome(recipe).status == "failed":
            last = probes[-1][0] if probes else 0
            yield Measurement._make((recipe.name, last, None, None, None, None, float("nan"), None))

    def record(self) -> dict[str, Any]:
        """Return what ``sweep.json`` holds."""
        plan, recipes = self.plan, list(self.recipes.values())
        device = device_of(plan.device, "sweep")
        runs = [
            asdict(self.outcome(recipe))
            | {name: _setting(recipe, name) for name in plan.settings}
            | {"unigram_nats": self._texts.unigram_nats(recipe)}
            for recipe in recipes
        ]
        return {
            "recipe": plan.recipe,
            "profile": plan.profile,
            "different_from_paper": against_paper(plan.recipe, recipes, self._texts.name),
            "texts": self._texts.descriptions(),
            "settings": list(plan.settings),
            "over": list(plan.grid.words),
            "search": plan.search,
            "training": {name: sorted({_setting(recipe, name) for recipe in recipes}) for name in _SHOWN},
            "command": plan.command(self.folder.path),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "device": {"kind": device.type, "machine": platform.machine(), "processors": os.cpu_count()},
            "seconds": round(sum(run["seconds"] or 0 for run in runs), 1),
            "runs": runs,
            "failed": [{"run": run["run"], "reason": run["reason"]} for run in runs if run["status"] == "failed"],
        }


_SHOWN = ("num_steps", "batch_size", "length", "learning_rate", "num_layers", "width", "hidden", "dropout")


def _setting(recipe: Recipe, name: str) -> Any:
    return getattr(recipe, name) if hasattr(recipe, name) else getattr(recipe.decoder, name)


class _Texts:
    """The text of a sweep with each vocabulary that its runs have.

    Args:
        plan, folder: of the sweep.
        progress: called while the text is read.
    """

    def __init__(self, plan: Plan, folder: SweepFolder, progress: Progress) -> None:
        self._plan, self._folder, self.progress = plan, folder, progress
        self.digest = folder.text_digest  # or that of the first reading
        self._nums: dict[int | None, int] = {}
        self._found: dict[int, tuple[Tokens, Path]] = {}
        self._unigram: dict[int, float] = {}

    @property
    def name(self) -> str:
        return next(iter(self._found.values()))[0].name if self._found else ""

    def require_same(self) -> None:
        """Require that a file or folder with the text is the same as at first; named texts are read only if needed."""
        if self.digest is not None and not is_known_text(self._plan.text):
            self._read()

    def _read(self) -> Text:
        """Read the text, and require that it is the one with which the sweep began."""
        self.progress("opening the text", 0, 1)
        text = read_text(self._plan.text)
        if text.digest != (self.digest or text.digest):
            problem = f"the text {self._plan.text or text.name} has changed since this sweep began"
            remedy = "run it with the Python of then" if self._plan.text in (None, BUILT_IN) else "put it back"
            raise BadInput(problem, expected="the same text at each start", remedy=f"{remedy}, or choose another `out`")
        self.digest = text.digest
        return text

    def num_words(self, size: int | None) -> int:
        """Return the number of words of a vocabulary of some size; of that of the profile for ``None``."""
        if size in self._nums:
            return self._nums[size]
        profile = PROFILES[self._plan.profile]
        wanted = profile.num_words if size is None else size
        tokens, path = self._folder.tokens(self._read, wanted, profile.splitting, self.progress)
        num = len(tokens.vocabulary)
        if size is not None and num < size:
            problem = f"the text {tokens.name} has only {num:,} words, but `over` asks for {size:,}"
            raise BadInput(problem, expected=f"at most {num:,}", remedy="take fewer words or another text")
        self._nums[size], self._found[num] = num, (tokens, path)
        return num

    def write(self) -> None:
        """Write the texts that were read before the folder was claimed."""
        for tokens, path in self._found.values():
            if not path.exists():
                save_tokens(tokens, path)

    def tokens(self, recipe: Recipe) -> Tokens:
        return self._found[recipe.decoder.vocabulary_size][0]

    def path(self, recipe: Recipe) -> Path:
        return self._found[recipe.decoder.vocabulary_size][1]

    def unigram_nats(self, recipe: Recipe) -> float:
        """Return the loss of predicting held-out words by their frequency."""
        tokens, size = self.tokens(recipe), recipe.decoder.vocabulary_size
        if size not in self._unigram:
            self._unigram[size] = unigram_nats(tokens, tokens.held_out)
        return self._unigram[size]

    def descriptions(self) -> list[str]:
        return [tokens.description for tokens, _ in self._found.values()]
