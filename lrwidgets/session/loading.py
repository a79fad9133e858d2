"""Load the job of a refinement from files, and record how, so that a run can load it again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.job_folders import find_job_files
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates
from lrcore.particles.duplicates import require_disjoint_half_sets
from lrcore.particles.half_sets import resplit
from lrcore.particles.subsets import draw_balanced_subset
from lrcore.records import HalfMaps, Particles
from lrcore.refinement.input_checks import warn_of_input
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec

PathLike = str | Path
Maps = PathLike | tuple[PathLike, ...]


@dataclass(frozen=True)
class Source:
    """The files and options that a job is loaded from.

    Attributes
    ----------
    particles, mask : paths
    half_maps : two maps, or one volume group (.csg); empty for none
    images : folder of the image stacks; None if the particles' file leads to them
    apix : voxel size of mask and half maps in Å, which overrides their headers; None for the headers'
    subset, subset_seed : number of particles to draw, None for all, and the seed
    resplit : seed for new half sets; None keeps those of the file
    """

    particles: str
    mask: str
    half_maps: tuple[str, ...] = ()
    images: str | None = None
    apix: float | None = None
    subset: int | None = None
    subset_seed: int = 0
    resplit: int | None = None

    @classmethod
    def from_paths(
        cls,
        particles: PathLike,
        mask: PathLike,
        half_maps: PathLike | tuple[PathLike, ...] = (),
        images: PathLike | None = None,
        **numbers: Any,
    ) -> "Source":
        """Return a source with absolute paths; `half_maps` may be one volume group, `numbers` are the other fields."""
        maps = half_maps if isinstance(half_maps, tuple) else (half_maps,)
        paths = {"particles": particles, "mask": mask, "half_maps": maps, "images": images}
        return cls(**{name: _absolute(path) for name, path in paths.items()}, **numbers)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Source":
        """Return the source that a run has recorded. Raises InputError if it has recorded none."""
        try:
            return cls(**{**fields, "half_maps": tuple(fields["half_maps"])})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"run: does not record the files that it was loaded from ({error}): start a new run"
            ) from error

    def with_paths(self, **paths: PathLike | tuple[PathLike, ...] | None) -> "Source":
        """Return the source with some of its paths replaced; None keeps a path."""
        return replace(self, **{name: _absolute(value) for name, value in paths.items() if value is not None})


def find_inputs(
    particles: PathLike, mask: PathLike | None, half_maps: Maps, resplit: bool
) -> tuple[PathLike, PathLike | None, Maps]:
    """Return particles, mask, if there is one, and half maps, completed from the job folder if `particles` is one.

    resplit: no half maps are looked for, because they belong to the old half sets. Raises InputError as
    `find_job_files` does.
    """
    folder = Path(particles)
    if folder.is_dir():
        missing = {"half_maps": not (half_maps or resplit), "mask": mask is None}
        files = find_job_files(folder, [part for part, is_missing in missing.items() if is_missing])
        particles, mask, half_maps = files.particles, mask or files.mask, half_maps or files.half_maps
    return particles, mask, half_maps


def resolve_inputs(
    particles: PathLike, mask: PathLike | None, half_maps: Maps, resplit: bool
) -> tuple[PathLike, PathLike, Maps]:
    """Return particles, mask and half maps as `find_inputs` does. Raises InputError if there is no mask."""
    folder = particles
    particles, mask, half_maps = find_inputs(particles, mask, half_maps, resplit)
    if mask is None:
        raise InputError(f"{folder}: comes without a mask: give one")
    return particles, mask, half_maps


def load_job(source: Source, spec: RefineSpec) -> Job:
    """Read and check the files of a job; warn, one line each, of what would harm a refinement.

    Parameters
    ----------
    source : the files and options
    spec : parameters of the refinement

    Returns
    -------
    Job
        The job; its images are not read yet.

    Raises
    ------
    InputError
        If an input cannot be read or does not fit the others; the message names the file.
    """
    particles = read_particles(source)
    mask = io.read_volume(source.mask, source.apix)
    half_maps = read_half_maps(source.half_maps, source.apix)
    warn_of_input(particles, mask, half_maps)
    return Job(select_subset(particles, source), mask, spec, half_maps)


def read_particles(source: Source) -> Particles:
    """Read the particles with their half sets, or with new ones. Raises InputError if the half sets share an image."""
    if source.resplit is None:
        particles = io.read_particles(source.particles, source.images)
        require_disjoint_half_sets(particles)
        return particles
    if source.half_maps:
        raise InputError(
            f"{source.half_maps[0]}: a half map of the old half sets holds images of both new ones, so the FSC "
            "would be too good: leave the half maps out with new half sets; they are reconstructed from the particles"
        )
    particles = io.read_particles(source.particles, source.images, split=False)
    return resplit(particles, read_micrograph_coordinates(particles), source.resplit)


def select_subset(particles: Particles, source: Source) -> Particles:
    """Return the particles, or the subset of them that the source asks for, balanced between the half sets."""
    if source.subset is None or source.subset >= len(particles):
        return particles
    return particles.select(draw_balanced_subset(particles.half, source.subset, source.subset_seed))


def table_suffix(particles: Particles) -> str:
    """Return the file suffix of the format that the particles came in: ".cs" or ".star"."""
    return ".cs" if particles.path.suffix.lower() in (".cs", ".csg") else ".star"


def read_half_maps(paths: tuple[str, ...], apix: float | None) -> HalfMaps | None:
    """Read two maps, or the two of a volume group (.csg); None for no paths. Raises InputError for another number."""
    if not paths:
        return None
    if len(paths) > 2:
        raise InputError(f"half maps: {len(paths)} files given; give two maps or one .csg")
    if len(paths) == 1:
        if Path(paths[0]).suffix.lower() not in (".csg", ".cs"):
            raise InputError(f"{paths[0]}: one half map is not enough: give both, or a volume group (.csg)")
        paths = tuple(map(str, io.read_half_maps(paths[0])))
    first, second = (io.read_volume(path, apix) for path in paths)
    return HalfMaps(first, second)


def _absolute(value: Any) -> Any:
    """Return a path, or a tuple of paths, as absolute text; None stays None."""
    if isinstance(value, tuple):
        return tuple(map(_absolute, value))
    return None if value is None else str(Path(value).absolute())
