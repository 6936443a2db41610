"""One claim, one file: a prediction held against a measurement, with a control, gives a verdict."""
