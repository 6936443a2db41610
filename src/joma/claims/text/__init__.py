"""Claims on networks that learn real text."""
