"""Sweeps: many training runs of one recipe over a grid of settings, in one folder."""
