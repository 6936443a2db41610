"""Claims on series of checkpoints of models of known families."""
