"""The objects of study: the one-layer model with its activations, losses and data, and latent hierarchies."""
