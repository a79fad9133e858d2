"""Run work on the CPU, a GPU or several processes."""
