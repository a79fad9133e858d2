"""Read maps, stacks, particles and run folders as layers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import mrcfile
import numpy as np

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.image_stacks import StackReader
from lrcore.records import Particles, Step
from lrcore.refinement.density import final_map, map_with_surroundings
from lrcore.refinement.geometry import fulcrum_A
from lrcore.refinement.job import Job
from lrcore.results.zarr_files import read_attributes
from lrcore.results.zarr_store import FORMAT
from lrwidgets.napari_panel.layers import AXES, UNITS, LayerData, fulcrum_layer, map_layer, mask_layer

Paths = str | Sequence[str]
MAPS, STACKS, PARTICLES, RUN = (".mrc", ".map", ".ccp4"), (".mrcs",), (".star",), ".zarr"
TABLES = (".cs", ".csg")
PACKED = (".gz", ".bz2")
CHUNK = 16
"""Number of images read at once."""


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Return the reader of these files, or None for unknown ones."""
    return read if all(_reader_for(Path(each)) is not None for each in _as_path_list(path)) else None


def read(paths: Paths) -> list[LayerData]:
    """Return the layers of files. Raises InputError for one that cannot be shown."""
    return [layer for path in _as_path_list(paths) for layer in _read(Path(path))]


def _as_path_list(paths: Paths) -> list[str]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def _reader_for(path: Path) -> Callable[[Path], list[LayerData]] | None:
    suffix = path.with_suffix("").suffix if path.suffix in PACKED else path.suffix
    if path.suffix == RUN:
        return _run if is_run(path) else None
    if suffix in MAPS:
        return _map
    if suffix in STACKS:
        return _stack
    if suffix in TABLES:
        return _table
    return _particles if suffix in PARTICLES else None


def _read(path: Path) -> list[LayerData]:
    reader = _reader_for(path)
    if reader is None:
        raise InputError(f"{path}: is not a map, stack, particle table or run: choose .mrc, .star, .cs or RUN.zarr")
    return reader(path)


def is_run(path: Path) -> bool:
    """Return whether a folder is a run of lrwidgets, and no other Zarr folder."""
    try:
        return bool(read_attributes(path).get("format") == FORMAT)
    except InputError:
        return False


def _table(path: Path) -> list[LayerData]:
    """Return particles of CryoSPARC, or the two half maps of a volume."""
    try:
        return _particles(path)
    except InputError as error:
        try:
            halves = io.read_half_maps(path)
        except InputError:
            raise error from None
    return [map_layer(io.read_volume(half), f"{path.name}, half {i}") for i, half in enumerate(halves, 1)]


def _map(path: Path) -> list[LayerData]:
    """Return a map, a mask if values lie between 0 and 1 and many are 0, or a stack named .mrc."""
    if path.suffix not in PACKED:
        with mrcfile.open(path, header_only=True, permissive=True) as file:
            sides = (int(file.header.nx), int(file.header.ny), int(file.header.nz))
        if len(set(sides)) != 1:
            return _stack(path)
    volume = io.read_volume(path)
    data = volume.data
    is_mask = data.min() >= 0 and 0.5 < data.max() <= 1 and float((data == 0).mean()) > 0.3
    return [(mask_layer if is_mask else map_layer)(volume, path.name)]


def _stack(path: Path) -> list[LayerData]:
    """Return a stack of images, read from the file when they are displayed."""
    try:
        file = mrcfile.mmap(path, mode="r", permissive=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}): is it an MRC file?") from error
    data, pixel = file.data, float(file.voxel_size.x) or 1.0
    if data is None or data.ndim != 3:
        raise InputError(f"{path}: is not a stack of images")
    return [_images(data, path.name, pixel)]


def _particles(path: Path) -> list[LayerData]:
    """Return the images of a particle table, in its order."""
    import dask.array as da

    particles = io.read_particles(path)
    n, box = len(particles), particles.box
    reader = StackReader(particles.images, box)

    def rows(block_info: object = None) -> np.ndarray:
        (start, stop), *_ = block_info[None]["array-location"]  # type: ignore[index]
        return reader.read(np.arange(start, stop))

    sizes = tuple(min(CHUNK, n - start) for start in range(0, n, CHUNK))
    data = da.map_blocks(rows, chunks=(sizes, (box,), (box,)), dtype=np.float32, meta=np.zeros((0, 0, 0), np.float32))
    return [_images(data, path.name, particles.pixel_size_A, particles)]


def _images(data: object, name: str, pixel_size_A: float, particles: Particles | None = None) -> LayerData:
    first = np.asarray(data[0], np.float32)  # type: ignore[index]
    low, high = (float(q) for q in np.quantile(first, (0.01, 0.99)))
    arguments = {
        "name": name,
        "scale": (1.0, pixel_size_A, pixel_size_A),
        "units": ("pixel", *UNITS[1:]),
        "axis_labels": ("image", *AXES[1:]),
        "contrast_limits": (low, high if high > low else low + 1.0),
        "metadata": {"lrwidgets": "images", "particles": particles},
    }
    return data, arguments, "image"


def _run(path: Path) -> list[LayerData]:
    """Return the newest step of a run."""
    from lrwidgets.session.session import Session

    with Session.open(path, write=False) as session:
        node, step = session.load_step()
        _, first = session.load_step(session.path()[0].id)
        return step_layers(session.job_of(node), first, step)


def step_layers(job: Job, first: Step, step: Step) -> list[LayerData]:
    """Return map, half maps (hidden), mask and fulcrum of a step as layers. first: step 0 of its run."""
    maps, shown = step.half_maps, f"iteration {step.iteration}"
    final = final_map(job, step)
    return [
        map_layer(map_with_surroundings(job, first, step), f"whole, {shown}", visible=False),
        map_layer(maps.first, f"half 1, {shown}", visible=False),
        map_layer(maps.second, f"half 2, {shown}", visible=False),
        map_layer(final, f"map, {shown}"),
        mask_layer(job.mask),
        fulcrum_layer(job.mask, fulcrum_A(job)),
    ]
