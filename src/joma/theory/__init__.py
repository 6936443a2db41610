"""Closed forms and exact identities of the theory, one function per result."""
