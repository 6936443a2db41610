"""What a curve over training does: how far it falls and comes back."""
