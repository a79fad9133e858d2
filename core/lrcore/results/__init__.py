"""Store the steps of a run and present them as xarray data sets."""
