"""Import of optional packages, which extras of joma install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from joma.errors import NotInstalled


def extra(package: str, needed_for: str, *, name: str = "", otherwise: str = "") -> Any:
    """Import an optional package.

    Args:
        package: the package to import.
        needed_for: what needs it, as a sentence for the message.
        name: of the extra that installs it; by default that of the package.
        otherwise: an alternative without the package, if there is one.

    Raises:
        NotInstalled: the package is not installed; the message names the extra.
    """
    try:
        return import_module(package)
    except ImportError as error:
        wanted = f"joma[{name or package}]"
        raise NotInstalled(
            f"the package `{package}` is not installed; {needed_for}",
            expected=f"the extra {wanted}",
            remedy=f"`pip install '{wanted}'`" + (f", or {otherwise}" if otherwise else ""),
        ) from error
