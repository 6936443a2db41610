"""Singular values and ranks of weight matrices, with certified bounds."""
