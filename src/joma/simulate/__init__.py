"""The theory's equations, integrated."""
