"""Series of saved steps: verified, measured step by step, kept."""
