"""The page of ``joma explore``: the theory solved in the page, a run, a hierarchy, and the claims on each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from joma.records import Agreement
from joma.report.drawing.words import NOT_EVALUATED
from joma.report.pages.document import document

_SCRIPTS = ("theory", "layer", "draw", "state", "theory_view", "layer_view", "run_view", "tree_view", "main")
ASSETS = ("explore/explore.css", *(f"explore/{name}.js" for name in _SCRIPTS))
"""The style sheet and the scripts, in the order in which they need each other."""


class Evidence(NamedTuple):
    """What became of a claim.

    Args:
        id: of the claim.
        statement: what it says.
        agreement: the numbers and the verdict; ``None`` if it was not evaluated.
        reason: why not.
    """

    id: str
    statement: str
    agreement: Agreement | None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return self.agreement.verdict.value if self.agreement else NOT_EVALUATED


def explore_page(
    data: Mapping[str, Any],
    evidence: Mapping[str, Sequence[Evidence]],
    source: str,
    *,
    created: datetime,
    versions: Mapping[str, str],
) -> str:
    """Return the page as HTML.

    Args:
        data: what the scripts draw, as plain data: ``theory``, ``run`` and ``tree``.
        evidence: the claims on each part: of the theory, the ``invariant``, the run and the tree.
        source: how the claims were evaluated.
        created: time at which the page is written.
        versions: of the software, by name.
    """
    return document(
        "explore.html",
        "joma explorer",
        data,
        assets=ASSETS,
        data=data,
        evidence=evidence,
        source=source,
        created=created,
        versions=versions,
    )
