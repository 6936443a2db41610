"""Lists of numbers as options give them: typed with commas, as a range, in a configuration, or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from joma.errors import BadInput
from joma.serialization import decoded, decoded_yaml

Given = str | float | list
"""What an option of numbers may be: text on the command line, a number or a list in a YAML file."""

SYNTAX = "numbers such as 3,2,0.5, a range first:last:stride, or a .txt, .csv, .json, .yaml or .npy file"
MOST_OF_A_RANGE = 1_000_000
FILES = (".txt", ".csv", ".json", ".yaml", ".yml", ".npy")


def numbers(given: Given, option: str) -> list[float]:
    """Return the finite numbers that ``given`` names, at least one.

    Args:
        given: see ``SYNTAX``.
        option: its name, for messages.

    Raises:
        BadInput: no numbers, an infinite one or NaN, or a file that cannot be read.
    """
    import numpy as np

    path = Path(given) if isinstance(given, str) else None
    try:
        content = given
        if path is not None and (path.suffix.lower() in FILES or path.is_file()):
            content = _file(path)
        elif isinstance(given, str):
            content = _range(given) if given.count(":") == 2 else given.strip().strip("[]").split(",")
        if isinstance(content, np.ndarray):
            content = content.tolist()
        entries = content if isinstance(content, list) else [content]
        if odd := [entry for entry in entries if isinstance(entry, bool) or not isinstance(entry, int | float | str)]:
            raise ValueError(f"{str(odd[0])[:40]} is no number")
        read = np.array([float(entry) for entry in entries])
    except (OSError, ValueError, OverflowError, EOFError) as error:
        cause = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
        raise BadInput(
            f"{option} is {str(given)[:80]!r} ({cause})",
            expected=SYNTAX,
            remedy="keep one list of numbers, no other text",
        ) from error
    if not len(read) or not np.isfinite(read).all():
        odd = f"{read[~np.isfinite(read)][0]:g} among them" if len(read) else "none"
        raise BadInput(
            f"{option} is {str(given)[:80]!r}, with {odd}", expected="one finite number or more", remedy="correct it"
        )
    return read.tolist()


def _range(given: str) -> list[float]:
    """``first:last:stride``, the last one included where the stride meets it, exactly."""
    import numpy as np

    first, last, stride = (float(part) for part in given.split(":"))
    count = (last - first) / stride + 1 if stride else 0
    if not 1 <= count <= MOST_OF_A_RANGE:
        raise ValueError(f"a range has 1 to {MOST_OF_A_RANGE:,} numbers, such as 0:10:0.1")
    whole = round(count)
    if abs(count - whole) > 1e-9 * whole:
        return (first + stride * np.arange(int(count))).tolist()
    return np.linspace(first, last, whole).tolist()


def _file(path: Path) -> Any:
    """What a file holds: a list, or an array."""
    import numpy as np

    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix.lower() not in FILES:
        raise ValueError(f"the name of a file of numbers ends in {', '.join(FILES)}")
    text = path.read_text(encoding="utf-8-sig")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    if path.suffix.lower() == ".txt":
        return " ".join(lines).replace(",", " ").split()
    if path.suffix.lower() == ".csv":
        rows = [line for line in lines if line]
        has_header = bool(rows) and not any(letter.isdigit() for letter in rows[0])
        return np.loadtxt(rows[has_header:], delimiter=",", quotechar='"') if rows else []
    return decoded(text) if path.suffix.lower() == ".json" else decoded_yaml(text)
