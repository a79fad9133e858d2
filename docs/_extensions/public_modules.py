"""The public modules: those that users import from, and that the API reference documents."""

PUBLIC_MODULES = (
    "lrcore",
    "lrcore.io",
    "lrcore.masks",
    "lrcore.maps",
    "lrcore.simulation",
    "lrwidgets",
    "lrwidgets.plots",
    "lrwidgets.jupyter",
)
