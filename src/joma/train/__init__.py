"""Networks of our own: their data, their loops, their records."""
