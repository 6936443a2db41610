"""The text that networks read: found, split, cut up into tokens."""
