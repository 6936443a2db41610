"""Series of saved steps in a local folder, in the layouts that training loops write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from joma.errors import BadInput
from joma.saved.ranges import LocalFile, Meter
from joma.saved.stores import WEIGHTS, StoredFile, numbered, step_in

_RUN = ("snapshots", "checkpoints")


class FolderStore:
    """A series in a folder, or a single weight file.

    The layouts are: a run of joma (``snapshots/`` or else ``checkpoints/``), folders with a step in their names
    (``checkpoint-500`` as Trainer writes them, ``step500``, ``global_step500``), weight files with a step in their
    names, and a folder with one model.
    """

    def __init__(self, path: Path, meter: Meter) -> None:
        self.source, self._meter = str(path), meter
        places = _places(path)
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
        files = [place] if place.is_file() else [path for path in place.iterdir() if path.is_file()]
        found = {path.name: path for path in sorted(files) if not path.name.startswith(".")}
        above = (path / "config.json" for path in (place.parent, place.parent.parent))
        config = None if "config.json" in found else next((path for path in above if path.is_file()), None)
        return found if config is None else found | {config.name: config}


def _places(path: Path) -> Mapping[int | None, Path]:
    if path.is_file():
        if path.suffix not in WEIGHTS:
            raise _no_model(path, path.name)
        return {step_in(path.stem): path}
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "tmp")))
    for name in _RUN:
        folder = path / name
        if folder.is_dir() and (found := _weight_files(folder.iterdir())):
            return _numbered(path, found)
    folders = [entry for entry in entries if entry.is_dir() and step_in(entry.name) is not None]
    if found := folders or _weight_files(entries):
        return _numbered(path, found)
    if any(entry.suffix in WEIGHTS for entry in entries):
        return {step_in(path.name): path}
    raise _no_model(path, ", ".join(entry.name for entry in entries[:5]) or "empty")


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
    return BadInput(
        f"{path} holds no model ({found})",
        expected="saved steps (checkpoint-*, step*, a run of joma) or one model's "
        f"weights ({', '.join(sorted(WEIGHTS))})",
        remedy="name the folder that holds them",
    )
