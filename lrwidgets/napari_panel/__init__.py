"""Show a session in napari next to the density. Nothing is imported before napari needs it."""
