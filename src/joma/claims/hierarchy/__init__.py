"""Claims on latent hierarchies: Theorem 5 and what networks find."""
