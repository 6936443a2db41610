"""Read text from files and folders: decompression, decoding, and one-line errors."""

from __future__ import annotations

import codecs
import difflib
import gzip
import lzma
import zlib
from collections.abc import Collection
from pathlib import Path

from joma.errors import BadInput

SUFFIXES = (".txt", ".gz", ".xz")
"""The suffixes of text files in a folder; a single file may have any name."""


def read_file(path: Path) -> str:
    """Return the text of one file, decompressed if it ends in ``.gz`` or ``.xz``, with line ends ``\\n``.

    Raises:
        BadInput: the file is missing, damaged, not UTF-8 (or UTF-16 with a byte order mark), or empty.
    """
    try:
        packed = path.read_bytes()
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        problem = f"cannot read {path} ({error.strerror})"
        raise BadInput(problem, expected="a readable file", remedy="check its permissions") from error
    text = _decoded(_unpacked(packed, path), path).replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise BadInput(f"{path} holds zero bytes, so it is no text", expected=_EXPECTED, remedy="give a text file")
    if not text.strip():
        raise BadInput(f"{path} holds no text at all", expected=_EXPECTED, remedy="give a file with words in it")
    return text


def read_folder(folder: Path) -> str:
    """Return all texts in a folder and its subfolders, sorted by path, with a blank line between files.

    Raises:
        BadInput: there is no text file, or ``read_file`` raises for one.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not files:
        raise BadInput(
            f"the folder {folder} holds no text file",
            expected=f"files that end in {', '.join(SUFFIXES)}",
            remedy="give another folder, or the file itself",
        )
    return "\n\n".join(read_file(path) for path in files)


def published_split(folder: Path) -> tuple[Path, Path] | None:
    """Return the training and the validation file of a folder, or ``None`` if either is missing.

    Their names are ``train`` and ``valid`` or ``validation`` with one of the suffixes, or those of WikiText
    (``wiki.train.tokens``).
    """
    train, held_out = _part(folder, "train"), _part(folder, "valid") or _part(folder, "validation")
    return (train, held_out) if train and held_out else None


def missing(path: Path, known: Collection[str] = ()) -> BadInput:
    """Return the error for a missing file, with the nearest name among existing files and ``known`` names."""
    folder = path.parent
    if path.is_symlink():
        problem, remedy = f"cannot read {path}: it is a broken symbolic link", "repair the link, or name its target"
        return BadInput(problem, expected="an existing file or folder", remedy=remedy)
    names = [*known, *(sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else ())]
    near = difflib.get_close_matches(path.name, names, n=1)
    place = f"the folder {folder} does not exist either" if not folder.is_dir() else "check the spelling"
    return BadInput(
        f"there is no file or folder {str(path)!r}",
        expected="an existing file or folder" + (f", or one of {', '.join(known)}" if known else ""),
        remedy=f"did you mean {near[0]!r}?" if near else place,
    )


_EXPECTED = "a text file in UTF-8, plain or compressed as .gz or .xz"


def _part(folder: Path, name: str) -> Path | None:
    paths = (folder / file for file in (f"{name}.txt", f"{name}.txt.xz", f"{name}.txt.gz", f"wiki.{name}.tokens"))
    return next((path for path in paths if path.is_file()), None)


def _unpacked(packed: bytes, path: Path) -> bytes:
    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix)
    if unpack is None:
        return packed
    try:
        return unpack(packed)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        problem = f"{path} is damaged or no {path.suffix} file ({error})"
        remedy = "download or compress it again, or rename it if it is plain text"
        raise BadInput(problem, expected=f"an intact {path.suffix} file", remedy=remedy) from error


def _decoded(data: bytes, path: Path) -> str:
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoded object may lack the byte order mark, and the position is relative to it.
        at = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, at) + 1
        raise BadInput(
            f"{path} is not {'UTF-16' if marked else 'UTF-8'}: byte {data[at]:#04x} at offset {at} (line {line})",
            expected=_EXPECTED,
            remedy="convert it, for instance with `iconv -f latin1 -t utf-8`",
        ) from error
