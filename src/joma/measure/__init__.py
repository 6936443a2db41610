"""Numbers read off tensors, modules and checkpoints; nothing here knows the theory."""
