"""Networks of our own: text, decoder, loop, runs that survive a kill."""
