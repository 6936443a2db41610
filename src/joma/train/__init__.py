"""Training of joma's own networks: texts, decoder, training loop, and runs that can be resumed after a kill."""
