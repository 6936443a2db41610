"""Saved weights and runs, in folders and on hubs: read in parts, never unpickled."""
