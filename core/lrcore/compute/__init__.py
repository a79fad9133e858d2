"""Run work on the CPU, on a GPU or on several processes."""
