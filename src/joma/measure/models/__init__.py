"""What is known of families of models: their projections, how to build them, whether configurations agree."""
