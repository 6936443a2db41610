"""What is studied: the one-layer model, its activations, losses and data; latent hierarchies."""
