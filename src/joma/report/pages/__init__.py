"""HTML pages that work offline, and the files written with them."""
