"""Checks that a claim's conclusion is readable for somebody who has not read the paper."""

from __future__ import annotations

import re

MOST_SENTENCES, MOST_WORDS = 3, 60
SYMBOLS = re.compile(r"[\u0370-\u03ff\u0300-\u036f\u2070-\u209f²³]|\b[a-zA-Z]\(")
"""Greek letters, combining accents, superscripts and subscripts, function calls."""


def faults(conclusion: str) -> list[str]:
    """Return the problems (too many or too long sentences, symbols of formulas); empty if there are none."""
    sentences = re.split(r"(?<=[.!?])\s+", conclusion.strip())
    found = [f"{len(sentences)} sentences"] if len(sentences) > MOST_SENTENCES else []
    found += [f"{num} words: {text}" for text in sentences if (num := len(text.split())) > MOST_WORDS]
    found += [f"no full stop: {text}" for text in sentences if not text.endswith(".")]
    return found + [f"symbol {symbol!r}" for symbol in SYMBOLS.findall(conclusion)]
