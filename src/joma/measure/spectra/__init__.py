"""How a weight matrix spreads its strength over directions, between certified bounds."""
