"""Verify series of saved steps, measure them step by step, and store the results."""
