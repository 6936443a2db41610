"""How well held-out likes are ranked, and which hidden units stand for what items have in common."""
