"""What is studied: a vocabulary, a data law, an activation."""
