"""Capture the inputs of the attention kernels of a running model."""
