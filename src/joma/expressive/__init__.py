"""Theory made into weights: decoders whose hidden units are the latents of a hierarchy."""
