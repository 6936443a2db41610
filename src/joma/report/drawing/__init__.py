"""One look for every figure, plot and number: on paper, in the page, in the terminal."""
