"""Numerical integration of the theory's equations, and sampling from its laws of data."""
