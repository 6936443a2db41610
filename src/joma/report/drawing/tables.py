"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rich.table import Table


def table_of(names: Iterable[Any], *, left: Collection[str] = (), fold: bool = False, **settings: Any) -> Table:
    """Return an empty table with right-aligned columns.

    Args:
        names: of the columns.
        left: names of the columns that are left-aligned.
        fold: whether cells that are too wide are wrapped instead of cut off.
        settings: of rich's ``Table``.
    """
    table = Table(title_justify="left", caption_justify="left", **settings)
    for name in names:
        side, overflow = "left" if name in left else "right", "fold" if fold else "ellipsis"
        table.add_column(name, justify=side, no_wrap=not fold, overflow=overflow)
    return table
