"""The napari plugin: the same session beside the density. Nothing here is imported before napari asks for it."""
