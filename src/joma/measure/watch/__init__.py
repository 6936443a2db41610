"""Measure models while they train."""
