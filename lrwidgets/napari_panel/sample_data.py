"""Provide a sample data set: a small flexible particle, simulated once on this machine."""

import tempfile
from pathlib import Path

from lrcore import io
from lrcore.masks import centre_of_mass
from lrcore.records import Volume
from lrwidgets.example import Example, make_example
from lrwidgets.napari_panel.layers import LayerData, fulcrum_layer, map_layer, mask_layer

FOLDER = "lrwidgets-example"


def sample_folder() -> Path:
    """Return the folder of the sample, which lies in the folder for temporary files."""
    return Path(tempfile.gettempdir()) / FOLDER


def make_sample_files() -> Example:
    """Simulate the files of the sample in a few seconds, unless they exist."""
    return make_example(sample_folder())


def sample() -> list[LayerData]:
    """Return consensus map, mask of the moving body, and a fulcrum at the mask's centre as layers."""
    files = make_sample_files()
    first, second = (io.read_volume(path) for path in files.half_maps)
    mask = io.read_volume(files.mask)
    x, y, z = (float(a) for a in centre_of_mass(mask.data) * mask.pixel_size_A)
    mean = Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A)
    return [map_layer(mean, "consensus map"), mask_layer(mask), fulcrum_layer(mask, (x, y, z))]
