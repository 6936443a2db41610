"""Claims on the dynamics with attention integrated out: Theorems 2 to 4."""
