"""Statistics of softmax attention, computed without the L×S matrix."""
