"""Users' tables: reading them from files, and checking what their columns hold."""
