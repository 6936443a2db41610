"""Drawing and number formats with one common style, for papers, pages and the terminal."""
