"""How softmax attention is spread over its keys, without the L×S matrix."""
