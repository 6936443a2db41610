"""How far curves over training fall and rise again, and the order in which the runs of a grid will end."""
