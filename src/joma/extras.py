"""The one door to packages that only an extra of joma installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from joma.errors import BadInput


def extra(package: str, needed_for: str, *, name: str = "", otherwise: str = "") -> Any:
    """Import an optional package.

    Args:
        package: what is imported.
        needed_for: what comes through it, as a sentence.
        name: of the extra that installs it; the package's own where it is left out.
        otherwise: how to do without it, where there is a way.

    Raises:
        BadInput: it is not installed; the message names the extra.
    """
    try:
        return import_module(package)
    except ImportError as error:
        wanted = f"joma[{name or package}]"
        raise BadInput(
            f"the package `{package}` is not installed; {needed_for}",
            expected=f"the extra {wanted}",
            remedy=f"`pip install '{wanted}'`" + (f", or {otherwise}" if otherwise else ""),
        ) from error
