"""HTML pages that work without a network, and the folders in which they stand."""
