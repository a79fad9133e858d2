"""Format numbers, errors and parameter forms, the same for the command line and both panels."""
