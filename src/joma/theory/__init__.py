"""What the mathematics says: closed forms and exact identities, one result one function."""
