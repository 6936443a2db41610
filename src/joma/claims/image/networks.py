"""The pictures and networks that the claims on images share, so that each network is trained once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from joma.claims.workspace import Profile, Workspace
from joma.errors import RunFailed
from joma.measure.curves.course import Course
from joma.train.courses import course_of
from joma.train.images.fashion import fashion
from joma.train.images.folder import images_of
from joma.train.images.kanji import kanji
from joma.train.images.pictures import SUFFIX, Pictures, load_pictures, save_pictures, with_permuted_labels
from joma.train.recipes import Recipe, vision_recipe
from joma.train.run import Run

ENTROPY = "attention_entropy_nats"

Network = Literal["full network", "linear MLP", "permuted labels"]
"""A network: with all its parts, with a linear MLP, or with all its parts and the labels of random subjects."""


@dataclass(frozen=True)
class Study:
    """The sizes of a profile: training, probes, pictures of each drawn character, and of Fashion-MNIST, and seeds."""

    num_steps: int
    learning_rate: float
    batch_size: int
    probe_every: int
    num_views: int
    num_fashion: int | None
    num_seeds: int = 3


STUDIES = {
    Profile.QUICK: Study(600, 2e-3, 64, probe_every=25, num_views=4, num_fashion=10_000),
    Profile.FULL: Study(20_000, 1e-3, 64, probe_every=200, num_views=32, num_fashion=None, num_seeds=5),
}


def study(workspace: Workspace) -> Study:
    """Return the study of the workspace's profile, with the number of seeds of the workspace."""
    sizes = STUDIES[workspace.profile]
    return replace(sizes, num_seeds=len(workspace.seeds(sizes.num_seeds)))


def pictures_with_parts(workspace: Workspace) -> Pictures:
    """Return the user's images, or else the characters of KanjiVG, which are drawn once per folder.

    Raises:
        BadInput: the images cannot be used.
        NotInstalled: no images are named, and the package with the characters is not installed.
    """
    if "images" in workspace.data:
        return replace(images_of(Path(workspace.data["images"])), name="images")
    path = workspace.folder / "pictures" / f"kanji{SUFFIX}"
    if not path.exists():
        workspace.progress("drawing characters", 0, 1)
        save_pictures(kanji(num_views=study(workspace).num_views), path)
    return load_pictures(path)


def every_pictures(workspace: Workspace) -> list[Pictures]:
    """Return those with parts, and Fashion-MNIST where the user names its folder."""
    found = [pictures_with_parts(workspace)]
    if "fashion" in workspace.data:
        some = fashion(Path(workspace.data["fashion"]), study(workspace).num_fashion)
        found.append(replace(some, name="fashion"))  # whatever the folder is called: runs have the name of the pictures
    return found


def trained(workspace: Workspace, pictures: Sequence[Pictures], networks: Sequence[Network]) -> list[list[list[Run]]]:
    """Train every network once per seed on each of the pictures, in one call, so that all cores stay busy.

    Returns:
        for each of the pictures, for each network, the runs by seed.
    """
    sizes, wanted = study(workspace), []
    for some in pictures:
        for network in networks:
            for seed in range(sizes.num_seeds):
                learned = with_permuted_labels(some, seed) if network == "permuted labels" else some
                wanted.append((_recipe(some, network, sizes, seed), learned))
    runs = iter(workspace.train_on_pictures(wanted))
    return [[[next(runs) for _ in range(sizes.num_seeds)] for _ in networks] for _ in pictures]


def _recipe(pictures: Pictures, network: Network, sizes: Study, seed: int) -> Recipe:
    return vision_recipe(
        pictures,
        variant="full network" if network == "permuted labels" else network,
        name=f"{pictures.name}_{network}_{sizes.num_steps}-steps_seed-{seed}",
        num_steps=sizes.num_steps,
        seed=seed,
        learning_rate=sizes.learning_rate,
        batch_size=sizes.batch_size,
        probe_every=sizes.probe_every,
        early_until=0,
        checkpoint_every=max(1, sizes.num_steps // 4),
    )


def entropy_of(runs: Sequence[Run], group: str | None = None) -> Course:
    """Return attention entropy, mean over layers, as a share of that of uniform attention.

    Args:
        runs: by seed.
        group: the group of pictures; ``None`` for all.
    """
    layers = [course_of(runs, ENTROPY, layer, group) for layer in range(runs[0].recipe.decoder.num_layers)]
    return share_of_uniform(replace(layers[0], values=np.mean([one.values for one in layers], axis=0)), runs)


def share_of_uniform(entropy: Course, runs: Sequence[Run]) -> Course:
    """Return attention entropy in nats as a share of that of uniform attention over the patches."""
    return replace(entropy, values=entropy.values / np.log(runs[0].recipe.length))


def labels_learned(runs: Sequence[Run], pictures: Pictures) -> int:
    """Return the first probed step at which the mean loss is below that of the frequencies of classes.

    Raises:
        RunFailed: there is none: such networks have learned nothing whose course could be read.
    """
    shares = pictures.labels.bincount().double() / len(pictures.labels)
    by_frequency = float(-(shares * shares.log()).nansum())
    course = course_of(runs, "val_loss_nats", None)
    below = [step for step, mean in zip(course.steps, course.mean, strict=True) if mean < by_frequency]
    if not below:
        raise RunFailed(
            f"after {course.steps[-1]:,} steps the network predicts no better than the frequencies of classes "
            f"({course.mean[-1]:.2f} nats, {by_frequency:.2f} by frequencies)",
            kept="what was trained and measured is kept",
            remedy="take more pictures of each class, or --profile full, which trains longer",
        )
    return below[0]


def notes(workspace: Workspace, pictures: Sequence[Pictures]) -> tuple[str, ...]:
    """Return what was learned, and how."""
    sizes = study(workspace)
    about = "; ".join(some.description for some in pictures)
    return (
        f"Pictures: {about}. A fifth of them is never seen in training, another fifth for each seed.",
        f"Three layers, width 64, four heads; {sizes.num_steps:,} steps of Adam at a constant {sizes.learning_rate:g}, "
        f"{sizes.batch_size} pictures each; {sizes.num_seeds} seeds.",
    )


def notes_on_length(workspace: Workspace) -> tuple[str, ...]:
    """Return what the quick profile leaves out of the curves."""
    return ("A rise that comes after so few steps would not be seen.",) if workspace.profile is Profile.QUICK else ()
