"""Files → the job of a refinement, with a note of how it was loaded so that a run can load it again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrcore import io
from lrcore.errors import InputError
from lrcore.io.job_folders import find_job_files
from lrcore.io.micrograph_coordinates import read_micrograph_coordinates
from lrcore.masks import require_mask_fits
from lrcore.particles.duplicates import require_disjoint_half_sets
from lrcore.particles.half_sets import resplit
from lrcore.particles.subsets import draw_balanced_subset
from lrcore.records import HalfMaps, Particles
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec

PathLike = str | Path
Maps = PathLike | tuple[PathLike, ...]


@dataclass(frozen=True)
class Source:
    """How a job was loaded. half_maps: two maps, or one volume group (.csg); empty: none.

    resplit: seed by which the half sets are split anew; None keeps those of the file.
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
        """A source with its paths made absolute; `half_maps` may be one volume group."""
        maps = half_maps if isinstance(half_maps, tuple) else (half_maps,)
        paths = {"particles": particles, "mask": mask, "half_maps": maps, "images": images}
        return cls(**{name: _absolute(path) for name, path in paths.items()}, **numbers)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Source":
        """The source that a run has noted. Raises InputError if it has noted none."""
        try:
            return cls(**{**fields, "half_maps": tuple(fields["half_maps"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"run: how it was loaded is not noted in it ({error}): begin it again") from error

    def with_paths(self, **paths: PathLike | tuple[PathLike, ...] | None) -> "Source":
        """The source with some of its paths given anew; None keeps what was noted."""
        return replace(self, **{name: _absolute(value) for name, value in paths.items() if value is not None})


def resolve_inputs(
    particles: PathLike, mask: PathLike | None, half_maps: Maps, resplit: bool
) -> tuple[PathLike, PathLike, Maps]:
    """Particles, mask and half maps; those that are not given from a job folder in place of the particles' file.

    resplit: new half sets have no half maps. Raises InputError if there is no mask, and as `folders.find` does.
    """
    folder = Path(particles)
    if folder.is_dir():
        wanted = {"half_maps": not (half_maps or resplit), "mask": mask is None}
        found = find_job_files(folder, [part for part, open_ in wanted.items() if open_])
        particles, mask, half_maps = found.particles, mask or found.mask, half_maps or found.half_maps
    if mask is None:
        raise InputError(f"{folder}: comes without a mask: give one")
    return particles, mask, half_maps


def load_job(source: Source, spec: RefineSpec) -> Job:
    """Read and check everything a job needs. Raises InputError in one line for whatever is unusable."""
    particles = read_particles(source)
    mask = io.read_volume(source.mask, source.apix)
    require_mask_fits(mask, particles.box, particles.pixel_size_A)
    return Job(select_subset(particles, source), mask, spec, read_half_maps(source.half_maps, source.apix))


def read_particles(source: Source) -> Particles:
    """The particles, in half sets that have no image in common: their own, or new ones."""
    if source.resplit is None:
        particles = io.read_particles(source.particles, source.images)
        require_disjoint_half_sets(particles)
        return particles
    if source.half_maps:
        raise InputError(
            f"{source.half_maps[0]}: a half map of the old half sets holds images of both new ones, so the FSC would "
            "be too good: leave the half maps out when half sets are split anew; they are made from the particles"
        )
    particles = io.read_particles(source.particles, source.images, split=False)
    return resplit(particles, read_micrograph_coordinates(particles), source.resplit)


def select_subset(particles: Particles, source: Source) -> Particles:
    """The particles, or the subset of them that the source asks for."""
    if source.subset is None or source.subset >= len(particles):
        return particles
    return particles.select(draw_balanced_subset(particles.half, source.subset, source.subset_seed))


def table_suffix(particles: Particles) -> str:
    """The ending of a file of the kind that the particles came from."""
    return ".cs" if particles.path.suffix.lower() in (".cs", ".csg") else ".star"


def read_half_maps(paths: tuple[str, ...], apix: float | None) -> HalfMaps | None:
    """Two maps, or the two of a volume group; None for no paths."""
    if not paths:
        return None
    if len(paths) > 2:
        raise InputError(f"half maps: {len(paths)} files are given; give two maps or one .csg")
    if len(paths) == 1:
        if Path(paths[0]).suffix.lower() not in (".csg", ".cs"):
            raise InputError(f"{paths[0]}: one half map is not enough: give both, or a volume group (.csg)")
        paths = tuple(map(str, io.read_half_maps(paths[0])))
    first, second = (io.read_volume(path, apix) for path in paths)
    return HalfMaps(first, second)


def _absolute(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_absolute, value))
    return None if value is None else str(Path(value).absolute())
