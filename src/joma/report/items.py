"""What is shown of a tree of items: a table for the terminal, the texts of its picture, and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joma.report.drawing.items import ItemPicture, ItemRow
from joma.report.drawing.looks import shortened
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_number

if TYPE_CHECKING:
    from rich.table import Table

    from joma.measure.items.outline import Cluster, Outline

NAMES = ("items", "likes", "similarity", "most liked", "genres (of all items)")
"""What is known of a cluster."""

_MOST_TITLES, _MOST_GENRES, _TITLE_LENGTH = 3, 2, 21


def outline_table(found: Outline) -> Table:
    """Return one row per cluster, in the order of the tree."""
    table = table_of(NAMES, left=NAMES[3:])
    for row in cluster_rows(found):
        table.add_row(*row)
    return table


def cluster_rows(found: Outline) -> list[tuple[str, ...]]:
    """Return the texts of each cluster, by ``NAMES``."""
    return [
        (
            f"{len(cluster.titles)}",
            f"{cluster.num_likes:,}",
            "–" if cluster.similarity is None else format_number(cluster.similarity, 2),
            _titles(cluster, 2),
            _genres(cluster),
        )
        for cluster in found.clusters
    ]


def outline_picture(found: Outline) -> ItemPicture:
    """Return the data of the picture."""
    rows = tuple(
        ItemRow(_titles(cluster, _MOST_TITLES), len(cluster.titles), _genres(cluster)) for cluster in found.clusters
    )
    subtitle = (
        "Learned from who likes what alone: the further to the left two clusters join, the more their users differ. "
        "Each row: how many items, the most liked ones, and genres that are more frequent than among all items (share "
        "there in brackets)."
    )
    title = f"Tree of {found.num_items:,} items in {len(found.clusters)} clusters"
    return ItemPicture(rows, tuple((join.one, join.other, join.distance) for join in found.joins), title, subtitle)


def conclusion(found: Outline) -> str:
    """Return what was found, in a sentence."""
    pairs = sum(len(cluster.titles) * (len(cluster.titles) - 1) for cluster in found.clusters)
    within = sum(
        (cluster.similarity or 0) * len(cluster.titles) * (len(cluster.titles) - 1) for cluster in found.clusters
    )
    similarity = f"two items of a cluster have a similarity of {within / pairs:.3f}" if pairs else "no cluster has two"
    replaced = (
        f"; earlier ratings of an item by the same user left out: {found.num_replaced:,}" if found.num_replaced else ""
    )
    return (
        f"{found.num_users:,} users, {found.num_items:,} items, {found.num_likes:,} likes{replaced}; "
        f"{similarity}, any two items {'' if pairs else 'have a similarity of '}{found.similarity:.3f}"
    )


def _titles(cluster: Cluster, num: int) -> str:
    return "; ".join(shortened(title, _TITLE_LENGTH) for title in cluster.titles[:num])


def _genres(cluster: Cluster) -> str:
    return ", ".join(f"{one.genre} {one.share:.0%} ({one.share_of_all:.0%})" for one in cluster.shared[:_MOST_GENRES])
