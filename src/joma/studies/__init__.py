"""The tasks of joma, each as a function that returns a result with tables, verdicts and plots."""
