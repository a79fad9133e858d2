"""Write a step of a run as files for other programs."""
