"""How well hidden units stand for latents, against chance."""
