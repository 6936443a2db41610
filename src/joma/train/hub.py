"""The door to the package `datasets`, which the extra `hub` brings."""

from __future__ import annotations

from types import ModuleType

from joma.errors import BadInput


def datasets_package(needed_for: str, *, otherwise: str = "") -> ModuleType:
    """The package `datasets`.

    Args:
        needed_for: what comes through it, as a sentence.
        otherwise: how to do without it, where there is a way.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            f"the package `datasets` is not installed; {needed_for}",
            expected="the extra joma[hub]",
            remedy="`pip install 'joma[hub]'`" + (f", or {otherwise}" if otherwise else ""),
        ) from error
    return datasets
