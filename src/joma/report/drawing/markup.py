"""Building HTML such that nothing can be left unescaped: text is text unless it was built here."""

from __future__ import annotations

import html
import json
from typing import Any

_VOID = frozenset({"meta"})
_DANGEROUS = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


class Markup(str):
    """HTML that may stand in a page as it is."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str | bool | None) -> Markup:
    """An element with its children and attributes, all escaped unless they are markup already.

    Args:
        name: of the tag.
        children: texts and markup, in order.
        attributes: values by name; underscores become hyphens, a trailing one falls off (``class_``); ``True``
            is written as a bare name, ``None`` and ``False`` not at all.
    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """Several pieces one after the other; what is not markup is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children))


def data_script(content: Any, id: str) -> Markup:
    """Plain data inside a page, written so that no text in it can end the element.

    Raises:
        ValueError: NaN or infinity, which JSON does not have.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_DANGEROUS)
    return element("script", Markup(text), type="application/json", id=id)


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(value)}"'
