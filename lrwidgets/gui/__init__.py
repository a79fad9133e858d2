"""Models of the panels: state and actions that Jupyter and napari share. No widget toolkit is imported here."""
