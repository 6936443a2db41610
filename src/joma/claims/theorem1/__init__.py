"""Claims on Theorem 1: attention and MLP move together."""
