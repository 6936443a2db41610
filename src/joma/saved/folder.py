"""Series of saved steps in a local folder, in the layouts that training loops write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

from joma.errors import BadInput
from joma.saved.layouts import candidates, foreign
from joma.saved.ranges import LocalFile, Meter
from joma.saved.stores import WEIGHTS, StoredFile, in_words, left_out, numbered, step_in

_MOST_BELOW = 1000
"""Files of a subfolder that are listed: there may be a data set in it."""

_RUN = ("snapshots", "checkpoints")
_MODEL = f"saved steps (checkpoint-*, step*, a run of joma) or one model's weights ({', '.join(sorted(WEIGHTS))})"


class FolderStore:
    """A series in a folder, or a single weight file.

    The layouts are: a run of joma (``snapshots/`` or else ``checkpoints/``), folders with a step in their names
    (``checkpoint-500`` as Trainer writes them, ``step500``, ``global_step500``), weight files with a step in their
    names, and a folder with one model.
    """

    def __init__(self, path: Path, meter: Meter) -> None:
        self.source, self._meter = str(path), meter
        places, self.left_out = _places(path)
        self.numbered = None not in places
        self._places: dict[int, Path] = {step or 0: place for step, place in places.items()}
        self.names = {step: place.name for step, place in self._places.items()}

    def listing(self, step: int) -> dict[str, StoredFile]:
        """The files of a step by name; ``config.json`` may lie up to two folders above them."""
        found = {name: path.stat() for name, path in self._files(step).items()}
        # The second time changes with the content too, and no program can set it back.
        return {
            name: StoredFile(name, stat.st_size, version=f"{stat.st_mtime_ns} {stat.st_ctime_ns}")
            for name, stat in found.items()
        }

    def open(self, step: int, name: str) -> LocalFile:
        """One file of a step."""
        return LocalFile(self._files(step)[name], self._meter)

    def _files(self, step: int) -> dict[str, Path]:
        place = self._places[step]
        found = {place.name: place} if place.is_file() else dict(_files_below(place))
        above = (path / "config.json" for path in (place.parent, place.parent.parent))
        config = None if "config.json" in found else next((path for path in above if path.is_file()), None)
        return found if config is None else found | {config.name: config}


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a folder and of its subfolders, in which sharded states lie, by name."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    below = chain(
        *(
            sorted(islice(entry.iterdir(), _MOST_BELOW))
            for entry in entries
            if entry.is_dir() and not entry.is_symlink()
        )
    )
    for path in chain(entries, below):
        if path.is_file() and not path.name.startswith("."):
            yield path.relative_to(folder).as_posix(), path


def _places(path: Path) -> tuple[Mapping[int | None, Path], tuple[str, ...]]:
    """Return the steps of a folder or file, and the names that look like those of steps but are not understood."""
    if path.is_file():
        if path.suffix not in WEIGHTS:
            raise _no_model(path, path.name)
        return {step_in(path.stem): path}, ()
    every = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    entries = [entry for entry in every if not entry.name.startswith("tmp")]
    is_model = bool(candidates([entry.name for entry in entries]))
    if is_model and step_in(path.name) is not None:  # subfolders are the state of its training
        return {step_in(path.name): path}, ()
    for name in _RUN:
        folder = path / name
        if folder.is_dir() and (found := _weight_files(folder.iterdir())):
            return _numbered(path, found), ()
    folders = [entry for entry in entries if entry.is_dir() and step_in(entry.name) is not None]
    omitted = left_out(entry.name if entry.is_dir() else entry.stem for entry in every if _may_be_a_step(entry))
    if found := folders or _weight_files(entries):
        unfinished = [entry.name for entry in every if entry not in entries and step_in(entry.name) is not None]
        return _numbered(path, found), (*omitted, *unfinished)
    if any(entry.suffix in WEIGHTS for entry in entries):
        return {step_in(path.name): path}, ()
    if (held := foreign([name for name, _ in _files_below(path)])) is not None:
        raise BadInput(f"{path} holds {held[0]}", expected=_MODEL, remedy=held[1])
    if omitted:
        raise BadInput(
            f"{path} holds no name in which a step is understood ({in_words(omitted)})",
            expected="names with one number, such as checkpoint-500",
            remedy="rename them to step1, step2, ..., or name one of them",
        )
    raise _no_model(path, ", ".join(entry.name for entry in entries[:5]) or "empty")


def _may_be_a_step(entry: Path) -> bool:
    return entry.is_dir() or entry.suffix in WEIGHTS


def _weight_files(entries: Iterable[Path]) -> list[Path]:
    return sorted(
        entry
        for entry in entries
        if entry.suffix in WEIGHTS and not entry.name.startswith(".") and step_in(entry.stem) is not None
    )


def _numbered(path: Path, found: list[Path]) -> dict[int | None, Path]:
    """Folders or weight files by step; the suffix of a weight file is not searched for a step."""
    by_name = {entry.name if entry.is_dir() else entry.stem: entry for entry in found}
    steps = numbered(str(path), by_name, "move one of them away")
    return {step: by_name[name] for step, name in steps.items()}


def _no_model(path: Path, found: str) -> BadInput:
    is_measured = any((path / name).exists() for name in ("metrics.jsonl", "metrics.parquet"))
    return BadInput(
        f"{path} holds no model ({found})",
        expected=_MODEL,
        remedy=f"it holds measurements: joma show {path}" if is_measured else "name the folder that holds them",
    )
