"""From a running model to what its attention kernels get."""
