"""What the Jupyter widgets and the napari panel share; no toolkit is imported here."""
