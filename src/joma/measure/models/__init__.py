"""Families of models: their projections, how to build them, whether configurations agree."""
