"""The theory's equations integrated, and its laws of data sampled."""
