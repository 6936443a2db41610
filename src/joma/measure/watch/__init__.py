"""Models that are measured while they train."""
