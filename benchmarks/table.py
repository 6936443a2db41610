"""What every benchmark prints with its figures: where they were measured, as a table or as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from typing import Any

from joma.provenance import versions


def machine() -> dict[str, Any]:
    """Where figures are measured, and how busy it is there already: a load near the number of cores blurs them."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.machine(),
        "load_before": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str] | None], place: dict[str, Any]) -> None:
    """Print a table; ``None`` among the rows draws a line. The machine stands below."""
    from rich.console import Console
    from rich.table import Table

    software = ", ".join(f"{name} {place['versions'][name]}" for name in ("python", "torch"))
    where = f"{place['cores']} cores, {place['processor']}, {software}; load before: {place['load_before']}"
    table = Table(*columns, title=title, caption=where)
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*row)
    Console().print(table)


def print_json(found: dict[str, Any]) -> None:
    """Print figures for machines."""
    print(json.dumps(found, indent=1))
