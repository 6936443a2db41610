"""What one does with joma, from Python or by a command: each study gives a result that shows itself."""
