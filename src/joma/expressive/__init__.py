"""Construction of decoders whose hidden units are the latents of a hierarchy, without training."""
