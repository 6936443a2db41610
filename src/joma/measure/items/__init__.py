"""How well held-out likes are ranked, by trees of items and by their rivals."""
