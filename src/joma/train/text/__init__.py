"""Texts for training: reading, splitting and tokenisation."""
