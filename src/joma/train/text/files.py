"""Text out of files and folders: unpacked, decoded, and refused in one line where that cannot be done."""

from __future__ import annotations

import codecs
import difflib
import gzip
import lzma
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

from joma.errors import BadInput

SUFFIXES = (".txt", ".gz", ".xz")
"""What counts as text inside a folder; a single file may be called anything."""

_TRAIN, _HELD_OUT = ("train",), ("valid", "validation")


def read_file(path: Path) -> str:
    """The text of one file: unpacked if it ends in ``.gz`` or ``.xz``, with line ends made ``\\n``.

    Raises:
        BadInput: no such file, a damaged archive, another encoding than UTF-8 (or UTF-16 with its mark), no text.
    """
    try:
        packed = path.read_bytes()
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise BadInput(
            f"cannot read {path} ({error.strerror})", expected="a readable file", remedy="check its permissions"
        ) from error
    text = _decoded(_unpacked(packed, path), path).replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise BadInput(f"{path} holds zero bytes, so it is no text", expected=_EXPECTED, remedy="give its text instead")
    if not text.strip():
        raise BadInput(f"{path} holds no text at all", expected=_EXPECTED, remedy="give a file with words in it")
    return text


def read_folder(folder: Path) -> str:
    """Every text in a folder and below it, in the order of the names, with a blank line between files.

    Raises:
        BadInput: no text file in it, or one that ``read_file`` refuses.
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
    """The files of a folder that come as a training and a validation part, as data sets are published.

    Known are ``train`` and ``valid`` or ``validation`` with any of the suffixes, and WikiText's own names
    (``wiki.train.tokens``). ``None`` where either is missing.
    """
    train, held_out = _part(folder, _TRAIN), _part(folder, _HELD_OUT)
    return (train, held_out) if train and held_out else None


def missing(path: Path, known: Collection[str] = ()) -> BadInput:
    """The error for a file that is not there, with the nearest name that is (or that is ``known``)."""
    folder = path.parent
    if path.is_symlink():
        return BadInput(
            f"cannot read {path}: it is a link that leads nowhere",
            expected="an existing file or folder",
            remedy="mend the link, or name what it should lead to",
        )
    names = [*known, *(sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else ())]
    near = difflib.get_close_matches(path.name, names, n=1)
    place = f"the folder {folder} does not exist either" if not folder.is_dir() else "check the spelling"
    return BadInput(
        f"there is no file or folder {str(path)!r}",
        expected="an existing file or folder" + (f", or one of {', '.join(known)}" if known else ""),
        remedy=f"did you mean {near[0]!r}?" if near else place,
    )


_EXPECTED = "a file of text in UTF-8, plain or packed as .gz or .xz"


def _part(folder: Path, names: Iterable[str]) -> Path | None:
    for name in names:
        for candidate in [f"{name}.txt", f"{name}.txt.xz", f"{name}.txt.gz", f"wiki.{name}.tokens"]:
            if (folder / candidate).is_file():
                return folder / candidate
    return None


def _unpacked(packed: bytes, path: Path) -> bytes:
    unpack = {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix)
    if unpack is None:
        return packed
    try:
        return unpack(packed)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadInput(
            f"{path} is damaged or not packed as its name says ({error})",
            expected=f"a whole {path.suffix} file",
            remedy="fetch or pack it again, or rename it if it is plain text",
        ) from error


def _decoded(data: bytes, path: Path) -> str:
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        # The object that failed may lack the mark at the file's start: positions count within it.
        at = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, at) + 1
        raise BadInput(
            f"{path} is not {'UTF-16' if marked else 'UTF-8'}: byte {data[at]:#04x} at offset {at} (line {line})",
            expected=_EXPECTED,
            remedy="convert it, for instance with `iconv -f latin1 -t utf-8`",
        ) from error
