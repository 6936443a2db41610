"""Sweeps after the paper's figures, as data: the grid and the settings of each in every profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from joma.domains import choose
from joma.errors import BadInput
from joma.measure.curves.quantities import ENTROPY
from joma.train.recipes import Recipe, paper_figure6
from joma.train.sweeps.grids import KINDS, Grid, Point, grid_of, run_name
from joma.train.text.vocabulary import Splitting


@dataclass(frozen=True)
class Profile:
    """The text and the length of all sweeps of a profile.

    Args:
        text: the text if none is named; ``None`` for the one that ships with Python.
        splitting: how it is split into words.
        num_words: size of the vocabulary if it is not swept; ``None`` for all words.
        settings: of the training runs.
        num_seeds: repetitions of each point.
    """

    text: str | None
    splitting: Splitting
    num_words: int | None
    settings: Mapping[str, Any]
    num_seeds: int = 3


PAPER_WORDS, PAPER_STEPS = 28_782, 58_560
"""Words of WikiText-2 in the paper's tokenisation, and 20 epochs of its 2,928 batches of 20 sequences of 35 words."""

_LONG = {
    "num_steps": PAPER_STEPS,
    "early_probe_every": 50,
    "early_until": 2_000,
    "probe_every": 480,
    "checkpoint_every": 1_000,
}

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "quick": Profile(None, "words", 1_000, {"num_steps": 1_500, "probe_every": 25}),
        "paper": Profile("wikitext2", "basic-english", None, _LONG),
        "wikitext103": Profile("wikitext103", "basic-english", PAPER_WORDS, _LONG),
    }
)
"""``quick`` takes at most half an hour on two cores. ``paper`` has the paper's text and length. ``wikitext103`` differs
from ``paper`` in the text alone: its own vocabulary has as many words, its commonest, and training as many steps.
"""


_NAMED = ("vocabulary_size", "num_steps", "learning_rate", "num_layers", "seed")
_OF_MEASURING = (
    "probe_every",
    "early_probe_every",
    "early_until",
    "num_probe_sequences",
    "checkpoint_every",
    "snapshot_every",
)


@dataclass(frozen=True)
class Figure:
    """A sweep after a figure of the paper.

    Args:
        question: what it is about, for the page.
        leading: the metric that the page shows first.
        settings: of all runs, by profile; ``paper`` stands for every profile that is not named.
        over: the grid, likewise.
    """

    question: str
    leading: str
    settings: Mapping[str, dict[str, Any]]
    over: Mapping[str, str]

    def grid(self, profile: str) -> Grid:
        """Return the grid of a profile."""
        return grid_of(self.over.get(profile, self.over["paper"]))

    def fixed(self, profile: str) -> dict[str, Any]:
        """Return the settings of all runs in a profile."""
        return self.settings.get(profile, self.settings["paper"])


RANK = "stable_rank"

FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "figure6": Figure(
            "Does attention become sparse and then dense at every depth?",
            ENTROPY,
            {"quick": {"learning_rate": 1e-3}, "paper": {"learning_rate": 1e-4}},
            {"quick": "layers=1,2,3,5,10", "paper": "layers=1:10:1"},
        ),
        "figure7": Figure(
            "Does the rank of the MLP's lower layers drop and return?",
            RANK,
            {"quick": {"learning_rate": 1e-3, "num_steps": 3_000}, "paper": {"learning_rate": 1e-4}},
            {"quick": "layers=1,3,5", "paper": "layers=1,3,5,10"},
        ),
        "figure8": Figure(
            "At which learning rates does attention become sparse and dense again, and is the loss best there?",
            ENTROPY,
            {"quick": {"num_layers": 5, "learning_rate": 1e-3}, "paper": {"num_layers": 5}},
            {"quick": "lr=1e-4:1e-2:5log", "paper": "lr=1e-6:1e-2:9log"},
        ),
    }
)


def figure_named(name: str) -> Figure:
    """Return the sweep of that name; otherwise raise ``InvalidArgument`` with the nearest name."""
    return choose(name, FIGURES, "sweep", "recipe")


def recipes_of(
    figure: str, profile: str, points: Sequence[Point], num_words: Mapping[Any, int], device: str
) -> list[Recipe]:
    """Return the recipe of each point, named after its settings.

    Args:
        figure, profile: of the sweep.
        points: settings in addition to those of the sweep, each with its ``seed``.
        num_words: size of the vocabulary for each ``vocabulary_size`` among the points; ``None`` for none.
        device: of training.

    Raises:
        BadInput: settings that do not fit together, or points that give the same run.
    """
    base = {**PROFILES[profile].settings, **FIGURES[figure].fixed(profile), "device": device}
    names: dict[Recipe, str] = {}
    for point in points:
        settings: dict[str, Any] = base | point
        size = num_words[settings.pop("vocabulary_size", None)]
        recipe = paper_figure6(size, name="run", **settings)
        name = run_name(point | {"seed": recipe.seed})
        if other := names.get(recipe):
            problem = f"the points {other} and {name} are the same run: one states what the sweep sets anyway"
            raise BadInput(problem, expected="different runs", remedy="leave out one of them")
        names[recipe] = name
    return [replace(recipe, name=name) for recipe, name in names.items()]


def against_paper(figure: str, recipes: Sequence[Recipe], text: str) -> str:
    """Return in what the runs of a sweep differ from those of the paper, in a sentence; empty if in nothing.

    How often something is measured or saved does not count.

    Args:
        figure: the sweep.
        recipes: of its runs.
        text: the name of the text.
    """
    paper = [FIGURES[figure].fixed("paper") | point for point in FIGURES[figure].grid("paper").points()]
    compared: dict[str, tuple[set[Any], set[Any]]] = {
        "text": ({text}, {PROFILES["paper"].text}),
        "words": ({recipe.decoder.vocabulary_size for recipe in recipes}, {PAPER_WORDS}),
        "steps": ({recipe.num_steps for recipe in recipes}, {PAPER_STEPS}),
        "learning rate": (
            {recipe.learning_rate for recipe in recipes},
            {point.get("learning_rate", Recipe.learning_rate) for point in paper},
        ),
        "layers": ({recipe.decoder.num_layers for recipe in recipes}, {point["num_layers"] for point in paper}),
        "seeds": ({len({recipe.seed for recipe in recipes})}, {PROFILES["paper"].num_seeds}),
    }
    reference = _settings(paper_figure6(PAPER_WORDS, name="run"))
    given = [_settings(recipe) for recipe in recipes]
    others = [name for name in KINDS if name not in (*_NAMED, *_OF_MEASURING)]
    compared |= {name.replace("_", " "): ({one[name] for one in given}, {reference[name]}) for name in others}
    differing = [f"{name} {_span(here)} ({_span(there)})" for name, (here, there) in compared.items() if here != there]
    return f"Different from the paper, whose values are in brackets: {', '.join(differing)}." if differing else ""


def _settings(recipe: Recipe) -> dict[str, Any]:
    return vars(recipe.decoder) | vars(recipe)


def _span(values: set[Any]) -> str:
    """One value, all words, or the lowest and the highest of several numbers and how many there are."""
    if any(isinstance(value, str | bool) for value in values):
        return " and ".join(sorted(map(str, values)))
    kinds = {int: "{:,}", float: "{:g}"}
    ends = [kinds.get(type(value), "{}").format(value) for value in (min(values), max(values))]
    return ends[0] if len(values) == 1 else f"{ends[0]} to {ends[1]}, {len(values)} values"
