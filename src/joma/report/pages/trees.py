"""The pages of ``joma tree learn``: a tree of columns or of items, the support of its edges, and how it was made."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from joma.provenance import versions
from joma.report import items
from joma.report.drawing.trees import FIRM, TreePicture, walk
from joma.report.pages.document import document
from joma.report.trees import conclusion, edge_rows, strength_of, tree_facts, tree_picture

if TYPE_CHECKING:
    from joma.measure.items.outline import Outline
    from joma.measure.trees.learning import Tree

_STEP, _WIDEST = 1.1, 9.0  # rem: of one level of the tree, and of all levels together
_SUPPORT = (
    f"Support is the share of bootstrap samples whose tree has the edge. Below {FIRM:.0%} other edges may be as good."
)


def columns_page(tree: Tree, svg: bytes, source: str) -> str:
    """Return the page of a tree of columns as HTML.

    Args:
        tree: as it was learned.
        svg: its picture, which shows the lengths of a neighbour-joining tree.
        source: where the table comes from, in words.
    """
    picture, by_length = tree_picture(tree), tree.method == "neighbour-joining"
    hung = "" if by_length else "Each column hangs from the one above it that is one step further to the left. "
    return _page(
        summary=conclusion(tree),
        about={"Table": source} | tree_facts(tree),
        reading=hung + _SUPPORT * bool(tree.num_bootstraps),
        nodes=[] if by_length else nodes_of(picture),
        strength=picture.strength,
        image=base64.b64encode(svg).decode(),
        alt=f"{picture.title}. The table below has its edges.",
        table={
            "title": "The edges between groups of columns",
            "caption": "Each separates the columns in two groups. The other edges lead to single columns.",
            "names": ("between", "and", strength_of(tree), "support"),
            "rows": edge_rows(tree) if by_length else [],
        },
        docs="docs/trees-from-data.md",
    )


def items_page(found: Outline, svg: bytes, about: Mapping[str, str]) -> str:
    """Return the page of a tree of items as HTML.

    Args:
        found: its upper part.
        svg: its picture.
        about: how it was made, by name.
    """
    picture, rows = items.outline_picture(found), items.cluster_rows(found)
    num = len(items.NAMES) if any(row[-1] for row in rows) else len(items.NAMES) - 1  # without genres if none is known
    return _page(
        summary=items.conclusion(found),
        about=about,
        reading="",
        nodes=[],
        strength="",
        image=base64.b64encode(svg).decode(),
        alt=f"{picture.title}. {picture.subtitle}",
        table={
            "title": "The clusters",
            "caption": "In the order of the tree. Similarity: cosine of two items' users, mean over pairs of items.",
            "names": items.NAMES[:num],
            "rows": [row[:num] for row in rows],
        },
        docs="docs/recommendation.md",
    )


def _page(**content: Any) -> str:
    return document("tree.html", "joma tree learn", {}, created=datetime.now(UTC), versions=versions(), **content)


def nodes_of(tree: TreePicture) -> list[dict[str, object]]:
    """Return the columns below one another, each indented below the one that it hangs from."""
    order, depth = walk(tree)
    step = min(_STEP, _WIDEST / max(1, *depth.values()))
    branches = {branch.node: branch for below in tree.children.values() for branch in below}
    largest = max((branch.strength for branch in branches.values()), default=0.0) or 1.0
    return [
        {
            "name": tree.names[node],
            "indent": step * depth[node],
            "branch": branches.get(node),
            "share": branches[node].strength / largest if node in branches else 0.0,
        }
        for node in order
    ]
