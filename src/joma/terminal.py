"""Text for people, in which no character of a name can command a terminal or turn the rest of a line around."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline, characters that set the direction, line separators, halves of pairs."""


def printable(text: str) -> str:
    r"""Return text with control characters as escapes (``\u001b``), which JSON reads as the same characters."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def console(file: IO[str], width: int | None = None) -> Console:
    """Return a rich console that shows every text as it is: printable, without markup or emoji codes."""
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class Plain(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            if isinstance(renderable, str):
                renderable = printable(renderable)
            elif isinstance(renderable, Text):  # before it is laid out, since escapes are wider
                pieces = renderable.divide(
                    [edge for found in _COMMANDS.finditer(renderable.plain) for edge in found.span()]
                )
                for piece in pieces:
                    piece.plain = printable(piece.plain)
                renderable = renderable.blank_copy().join(pieces)
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(printable(segment.text), segment.style)

    return Plain(file=file, width=width, markup=False, emoji=False)
