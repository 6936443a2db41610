"""Measurements of tensors, modules and checkpoints, independent of the theory."""
