"""Words, numbers and parameter forms that the command line and both panels share."""
