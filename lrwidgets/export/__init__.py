"""Write a step of a run for other programs."""
