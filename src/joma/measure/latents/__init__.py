"""How well hidden units represent latents, compared with chance."""
