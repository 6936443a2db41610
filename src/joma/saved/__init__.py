"""Saved weights and runs, in folders and on hubs: read by parts, never unpickled."""
