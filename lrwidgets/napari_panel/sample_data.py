"""The sample: a small flexible particle, simulated once on this machine."""

import tempfile
from pathlib import Path

from lrcore import io
from lrcore.masks import centre_of_mass
from lrcore.records import Volume
from lrwidgets.example import Example, make_example
from lrwidgets.napari_panel.layers import LayerData, fulcrum_layer, map_layer, mask_layer

FOLDER = "lrwidgets-example"


def make_sample_files() -> Example:
    """The files of the sample, made in a few seconds in the folder for temporary files unless they are there."""
    return make_example(Path(tempfile.gettempdir()) / FOLDER)


def sample() -> list[LayerData]:
    """Consensus map, mask of the moving body, and a fulcrum in the mask's middle."""
    files = make_sample_files()
    first, second = (io.read_volume(path) for path in files.half_maps)
    mask = io.read_volume(files.mask)
    x, y, z = (float(a) for a in centre_of_mass(mask.data) * mask.pixel_size_A)
    mean = Volume(0.5 * (first.data + second.data), first.pixel_size_A, first.header_origin_A)
    return [map_layer(mean, "consensus map"), mask_layer(mask), fulcrum_layer(mask, (x, y, z))]
