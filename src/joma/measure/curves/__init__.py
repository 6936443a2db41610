"""How far a curve over training falls and rises again."""
