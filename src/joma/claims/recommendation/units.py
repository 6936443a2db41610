"""Claim recommendation.units: whether a network that predicts likes has hidden units for genres it was never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from joma.charts import Chart, Curve, Mark, Role
from joma.claims.hierarchy.levels import curve_of
from joma.claims.workspace import Profile, Workspace
from joma.errors import BadInput
from joma.measure.items.rivals import item_similarity
from joma.measure.latents.detection import best_units
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.tables.ratings import Ratings, ratings_of
from joma.train.decoder import Decoder, DecoderConfig
from joma.train.hidden import mean_hidden
from joma.train.like_sequences import like_tokens
from joma.train.recipes import Recipe
from joma.train.run import Run
from joma.train.text.vocabulary import Tokens, shuffled

LEAST_RATINGS, LEAST_ITEMS = 20, 20

Attributes = Bool[np.ndarray, "I G"]


@dataclass(frozen=True)
class Sizes:
    """The networks and how long they are trained: up to the lowest loss on held-out users, where more overfits."""

    width: int
    hidden: int
    num_layers: int
    num_steps: int
    num_seeds: int
    num_shuffles: int = 20


SIZES = {
    Profile.QUICK: Sizes(64, 256, num_layers=1, num_steps=400, num_seeds=5),
    Profile.FULL: Sizes(128, 256, num_layers=2, num_steps=300, num_seeds=10),
}
NUM_SNAPSHOTS = 4

CRITERION = Criterion(
    "AUC of a genre's best unit on other items, mean over genres, minus the larger of untrained units' and co-likes'",
    ">=",
    0.03,
    "of a hundred pairs of an item with the genre and one without it, three more are in the right order: with less, a "
    "unit of the network says hardly more about a genre than what needs no training",
)


@dataclass(frozen=True)
class Scores:
    """AUC by genre of one seed.

    Args:
        run: the network.
        num_items: items that occur in the training likes.
        course: the best units at each snapshot, the first one before training.
        co_likes: the best column of co-likes.
        few_co_likes: the best of as many columns of co-likes, drawn at random, as there are units.
        random_order: the best units of the network that was trained on likes in random order.
        shuffled: the numbers ``trained``, ``untrained`` and ``co-likes`` for shuffled genres, means over shuffles.
        embedding: the best dimension of the trained embedding.
    """

    run: Run
    num_items: int
    course: Float[np.ndarray, "snapshots G"]
    co_likes: Float[np.ndarray, " G"]
    few_co_likes: Float[np.ndarray, " G"]
    random_order: Float[np.ndarray, " G"]
    shuffled: tuple[float, float, float]
    embedding: Float[np.ndarray, " G"]

    @property
    def bar(self) -> float:
        """The larger of the numbers that need no training."""
        return max(self.course[0].mean(), self.co_likes.mean())

    @property
    def margin(self) -> float:
        """The deciding number."""
        return self.course[-1].mean() - self.bar


def evaluate(workspace: Workspace) -> Agreement:
    """Train networks on likes, and score their units on genres."""
    sizes = SIZES[workspace.profile]
    ratings = ratings_of(workspace.data.get("ratings")).of_popular(LEAST_RATINGS)
    genres, names = _genres(ratings)
    seeds = workspace.seeds(sizes.num_seeds)
    likes = [like_tokens(ratings, seed) for seed in seeds]
    wanted = [(kind, seed, kind(tokens, seed)) for seed, tokens in zip(seeds, likes, strict=True) for kind in _ORDERS]
    runs = workspace.train_on_tokens([(_recipe(kind, tokens, sizes, seed), tokens) for kind, seed, tokens in wanted])
    scores = []
    for done, tokens in enumerate(likes):
        workspace.progress("scoring hidden units on genres", done, len(seeds))
        scores.append(_scores(runs[2 * done], runs[2 * done + 1], tokens, genres, sizes.num_shuffles))
    agreement = Agreement(
        CRITERION,
        Estimate.of(one.margin for one in scores),
        (
            Control(
                "genres shuffled across items",
                Estimate.of(one.shuffled[0] - max(one.shuffled[1:]) for one in scores),
            ),
            Control(
                "trained on likes in random order", Estimate.of(one.random_order.mean() - one.bar for one in scores)
            ),
        ),
        conclusion="",
        findings=_findings(scores, names),
        charts=_charts(scores, names),
        notes=_notes(ratings, names, likes, scores),
    )
    return replace(agreement, conclusion=_conclusion(scores, agreement.verdict))


def _in_order(tokens: Tokens, seed: int) -> Tokens:
    return tokens


_ORDERS: dict[Callable[[Tokens, int], Tokens], str] = {_in_order: "in-order", shuffled: "random-order"}
"""What the networks learn: the likes, and the same in random order."""


def _genres(ratings: Ratings) -> tuple[Attributes, list[str]]:
    """The genres that enough items have, and their names."""
    common = ratings.genres.sum(0) >= LEAST_ITEMS
    if not common.any():
        raise BadInput(
            f"no genre has {LEAST_ITEMS} items with at least {LEAST_RATINGS} ratings",
            expected="a column genres (separated by |) with common ones",
            remedy="add it, or evaluate recommendation.tree, which needs no genres",
        )
    return ratings.genres[:, common], [name for name, keep in zip(ratings.genre_names, common, strict=True) if keep]


def _recipe(kind: Callable[[Tokens, int], Tokens], tokens: Tokens, sizes: Sizes, seed: int) -> Recipe:
    return Recipe(
        name=f"likes-{_ORDERS[kind]}_{tokens.digest[:8]}_{sizes.num_steps}-steps_seed-{seed}",
        decoder=DecoderConfig(
            len(tokens.vocabulary),
            width=sizes.width,
            hidden=sizes.hidden,
            num_layers=sizes.num_layers,
            output_bias="unigram",
        ),
        num_steps=sizes.num_steps,
        learning_rate=1e-3,
        seed=seed,
        early_until=0,
        checkpoint_every=sizes.num_steps,
        snapshot_every=sizes.num_steps // NUM_SNAPSHOTS,
    )


def _scores(run: Run, random_order: Run, tokens: Tokens, genres: Attributes, num_shuffles: int) -> Scores:
    seed = run.recipe.seed
    windows = tokens.train[: len(tokens.train) // run.recipe.length * run.recipe.length].view(-1, run.recipe.length)
    seen = torch.bincount(windows.flatten(), minlength=len(tokens.vocabulary))[1:] > 0
    labels = genres[seen.numpy()]
    generator = np.random.default_rng(seed)
    mixed = np.concatenate([labels[generator.permutation(len(labels))] for _ in range(num_shuffles)], axis=1)

    def best(columns: Float[np.ndarray, "I K"]) -> tuple[np.ndarray, float]:
        found = best_units(columns, np.concatenate([labels, mixed], axis=1), seed)
        return found[: labels.shape[1]], float(found[labels.shape[1] :].mean())

    def of_units(decoder: Decoder) -> tuple[np.ndarray, float]:
        return best(torch.cat(mean_hidden(decoder, windows), dim=1)[1:][seen].numpy())

    course = [of_units(run.decoder(step)) for step in run.snapshots()]
    columns = item_similarity(_likes(tokens))[:, seen.numpy()][seen.numpy()]
    co_likes = best(columns)
    num_units = min(sum(len(lower) for lower in run.decoder().lower_weights()), len(columns))
    few = best(columns[:, generator.choice(len(columns), num_units, replace=False)])
    embedding = run.decoder().embedding.weight.detach()[1:][seen]
    return Scores(
        run,
        len(labels),
        np.stack([found for found, _ in course]),
        co_likes[0],
        few[0],
        of_units(random_order.decoder())[0],
        (course[-1][1], course[0][1], co_likes[1]),
        best(embedding.double().numpy())[0],
    )


def _likes(tokens: Tokens) -> Float[np.ndarray, "U I"]:
    """The likes of the training users."""
    ends = tokens.train == 0
    users, items = ends.cumsum(0)[~ends], tokens.train[~ends] - 1
    likes: Tensor = torch.zeros(int(ends.sum()) + 1, len(tokens.vocabulary) - 1, dtype=torch.float64)
    likes[users, items] = 1
    return likes.numpy()


def _last(run: Run, metric: str) -> float:
    return [entry.value for entry in run.measurements() if entry.metric == metric][-1]


def _findings(scores: Sequence[Scores], names: Sequence[str]) -> tuple[Finding, ...]:
    parts = {
        "trained": [one.course[-1] for one in scores],
        "untrained": [one.course[0] for one in scores],
        "co-likes": [one.co_likes for one in scores],
        "as many columns of co-likes as units": [one.few_co_likes for one in scores],
        "trained on likes in random order": [one.random_order for one in scores],
        "dimensions of the trained embedding": [one.embedding for one in scores],
    }
    found = [Finding(f"AUC, {name}", Estimate.of(part.mean() for part in parts[name])) for name in parts]
    found.append(Finding("AUC, trained, genres shuffled", Estimate.of(one.shuffled[0] for one in scores)))
    found += [
        Finding(
            f"{name}: trained minus {other}",
            Estimate.of(one[place] - two[place] for one, two in zip(parts["trained"], parts[other], strict=True)),
            f"AUC {np.mean([one[place] for one in parts['trained']]):.3f}",
        )
        for place, name in enumerate(names)
        for other in ("untrained", "co-likes")
    ]
    losses = [_last(one.run, "val_loss_nats") for one in scores]
    return (*found, Finding("loss on held-out users", Estimate.of(losses, "nats"), "per item"))


def _charts(scores: Sequence[Scores], names: Sequence[str]) -> tuple[Chart, ...]:
    steps = scores[0].run.snapshots()
    ends = [steps[0], steps[-1]]
    start = np.array([one.course[0].mean() for one in scores])
    means = np.stack([one.course.mean(1) for one in scores])
    co_likes = np.array([one.co_likes.mean() for one in scores])
    random_order = np.array([one.random_order.mean() for one in scores])
    order = np.argsort(np.mean([one.course[-1] for one in scores], axis=0))[::-1].tolist()
    places = [float(place + 1) for place in range(len(order))]
    by_genre: dict[str, tuple[Role, np.ndarray]] = {
        "trained": ("measured", np.stack([one.course[-1] for one in scores])),
        "co-likes": ("context", np.stack([one.co_likes for one in scores])),
        "untrained": ("control", np.stack([one.course[0] for one in scores])),
    }
    return (
        Chart(
            "course",
            "How well the best hidden unit of a genre separates its items from others",
            "Mean over genres, on other items than those on which the unit was chosen; 1/2 is chance. The best column "
            "of co-likes needs no network. Bands: lowest to highest seed.",
            "optimiser steps",
            "AUC",
            (
                curve_of("hidden units", steps, means, "measured"),
                curve_of("trained on likes in random order", ends, np.stack([start, random_order], 1), "control"),
                curve_of("best column of co-likes", ends, np.stack([co_likes, co_likes], 1), "context"),
            ),
        ),
        Chart(
            "genres",
            "The same by genre",
            "Genres in the order of the trained network: "
            + ", ".join(f"{place + 1} {names[genre]}" for place, genre in enumerate(order))
            + ". Bands: lowest to highest seed.",
            "genre (see caption)",
            "AUC",
            tuple(_by_genre(label, places, values[:, order], role) for label, (role, values) in by_genre.items()),
            (Mark("y", 0.5, "chance"),),
        ),
    )


def _by_genre(label: str, places: Sequence[float], values: np.ndarray, role: Role) -> Curve:
    return replace(curve_of(label, places, values, role), joined=False)


def _conclusion(scores: Sequence[Scores], verdict: Verdict) -> str:
    trained, untrained, co_likes, random_order = (
        np.array([part.mean() for part in parts])
        for parts in zip(
            *((one.course[-1], one.course[0], one.co_likes, one.random_order) for one in scores), strict=True
        )
    )
    openings = {
        Verdict.HOLDS: "A network that learns which item a user likes next gets hidden units for genres it was never "
        "shown, beyond what co-likes contain",
        Verdict.UNDECIDED: "Whether a network that learns which item a user likes next gets better units for genres "
        "than co-likes contain is not decided",
    }
    is_learned = Estimate.of(trained - untrained).interval[0] > 0
    failed = (
        "A network that learns which item a user likes next gets better hidden units for genres than it had before, "
        "though it was never shown them, but the co-likes themselves contain better ones"
        if is_learned
        else "A network that learns which item a user likes next gets no hidden units for genres"
    )
    return (
        f"{openings.get(verdict, failed)}. On items on which it was not chosen, the best unit of a genre has an AUC of "
        f"{trained.mean():.3f}, before training {untrained.mean():.3f}, after training on likes in random order "
        f"{random_order.mean():.3f}; the best column of co-likes has {co_likes.mean():.3f}."
    )


def _notes(
    ratings: Ratings, names: Sequence[str], likes: Sequence[Tokens], scores: Sequence[Scores]
) -> tuple[str, ...]:
    recipe, tokens = scores[0].run.recipe, likes[0]
    seen = min(one.num_items for one in scores)
    return (
        f"{ratings.num_items:,} items with at least {LEAST_RATINGS} ratings; at least {seen:,} of them occur in the "
        f"training likes of a seed; {len(names)} genres with at least {LEAST_ITEMS} items; seed 0: "
        f"{tokens.description}.",
        f"Width {recipe.decoder.width}, {recipe.decoder.hidden} hidden units in each of {recipe.decoder.num_layers} "
        f"layers, {recipe.num_steps:,} steps of {recipe.batch_size} × {recipe.length} likes: about where the loss on "
        "held-out users was lowest in a trial on MovieLens, before any genre was looked at. Units of all layers and "
        "all columns of co-likes are candidates; each seed has its own held-out users, initial weights and halves of "
        "the items.",
    )
