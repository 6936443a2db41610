"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rich.table import Table


def table_of(names: Iterable[Any], *, left: Collection[str] = (), fold: bool = False, **settings: Any) -> Table:
    """A table without rows, its columns aligned to the right as numbers are.

    Args:
        names: of the columns.
        left: those that hold words.
        fold: whether cells are folded that are too wide, in place of cut off.
        settings: of rich's ``Table``.
    """
    table = Table(title_justify="left", caption_justify="left", **settings)
    for name in names:
        side, overflow = "left" if name in left else "right", "fold" if fold else "ellipsis"
        table.add_column(name, justify=side, no_wrap=not fold, overflow=overflow)
    return table
