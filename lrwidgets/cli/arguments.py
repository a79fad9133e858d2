"""Define the command line: the parser of every command, its options and their help."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from lrcore.errors import InputError
from lrwidgets import __version__
from lrwidgets.cli.option_types import (
    all_or_positive_int,
    auto_or_number,
    finite_number,
    mask_operation,
    nonnegative_int,
    nonnegative_number,
    output_file,
    output_folder,
    output_options,
    output_table_or_folder,
    positive_int,
    positive_number,
)
from lrwidgets.cli.shared_options import (
    add_compute_options,
    add_images,
    add_particles_to_file,
    add_seed,
    add_step,
    add_threads,
)

MAKE_FOLDERS = ("demo", "refine")
"""Commands whose output is a folder of their own, which is never replaced."""


class _Parser(argparse.ArgumentParser):
    """Parser that raises InputError, one line, for arguments that it cannot use."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError with the message and where to find help."""
        raise InputError(f"{message}: see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object per line, for programs"
    )
    top = _Parser(
        prog="lrwidgets", description="Local refinement of cryo-EM particles, step by step.", parents=[shared]
    )
    top.add_argument("--version", action="version", version=f"lrwidgets {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (build, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, parents=[shared])
        build(command)
        command.set_defaults(outputs=tuple((option.dest, option.type) for option in output_options(command)))
        if output_options(command) and name not in MAKE_FOLDERS:
            command.add_argument("--overwrite", action="store_true", help="replace files that exist (default: refuse)")
    return top


# Options of each command, in the order of COMMANDS.


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=output_folder, default=Path("demo"), metavar="DIR", help="folder to write (default: demo)"
    )
    command.add_argument(
        "--realistic", action="store_true",
        help="a stack as it comes from a microscope: junk, particles without the body, neighbours, wrong defocus",
    )  # fmt: skip
    add_compute_options(command)


def _refine(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("particles", type=Path, metavar="PARTICLES", help=".star, .cs or .csg file with 3D poses, or a job folder")
    add("--mask", type=Path, help="soft mask of the region to refine (not needed with --resume)")
    add(
        "--half-maps", type=Path, nargs="+", default=[], metavar="MAP",
        help="two half maps, or a volume .csg (default: reconstructed from the particles)",
    )  # fmt: skip
    add("--spec", type=Path, metavar="FILE.toml", help="parameters, one name = value per line")
    add(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="set one parameter; takes precedence over --spec; may be repeated",
    )  # fmt: skip
    add("--iterations", type=int, metavar="N", help="maximum number of iterations; the same as max_iterations=N")
    add("--seed", type=int, metavar="N", help="seed of all random numbers")
    add(
        "--subset", type=positive_int, metavar="N",
        help="use N particles only, drawn at random, equally many from each half set",
    )  # fmt: skip
    add(
        "--resplit",
        action="store_true",
        help="draw new half sets with the seed; half maps are then reconstructed from the particles",
    )
    add_images(command)
    add("--apix", type=float, metavar="A", help="voxel size of mask and half maps, instead of that in their headers")
    add("--out", type=output_folder, required=True, metavar="RUN.zarr", help="the run to write: a new folder")
    add(
        "--resume",
        action="store_true",
        help="continue RUN.zarr from its last complete iteration; start it if there is no run yet",
    )
    add(
        "--cache-memory",
        type=nonnegative_number,
        metavar="GB",
        help="memory for the windows of the images, which are cut once (default: a third of what is free)",
    )
    add(
        "--scratch", type=Path, metavar="DIR",
        help="folder on a fast disk for windows that do not fit into memory; they are removed at the end",
    )  # fmt: skip
    add("--no-cache", action="store_true", help="keep no windows: cut them from the images in each iteration")
    add("--workers", type=positive_int, metavar="N", help="distribute the images over N processes on this machine")
    add(
        "--scheduler",
        metavar="tcp://...",
        help="distribute the images over the workers of this dask scheduler, instead of --workers",
    )
    add(
        "--worker-threads", type=positive_int, metavar="N",
        help="threads per worker (default: with --workers their share of the cores, with --scheduler 1)",
    )  # fmt: skip
    add_compute_options(command)


def _export(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add_step(command)
    add("--star", type=output_file, metavar="FILE", help="write the particles with new poses for RELION")
    add(
        "--cs",
        type=output_file,
        metavar="FILE",
        help="write the particles with new poses for CryoSPARC, and a .csg with it",
    )
    add(
        "--maps",
        type=output_folder,
        metavar="DIR",
        help="write half maps, filtered and sharpened map, and mask as MRC files",
    )
    add("--fsc-xml", type=output_file, metavar="FILE", help="write the corrected FSC as XML for EMDB")
    add("--fsc-star", type=output_file, metavar="FILE", help="write the FSC curves as RELION's postprocess.star")
    add(
        "--chimerax", type=output_folder, metavar="DIR",
        help="write map, mask, fulcrum and motion, with a scene.cxc that opens them in ChimeraX",
    )  # fmt: skip
    add(
        "--deposit", type=output_folder, metavar="DIR",
        help="write what EMDB asks for: half maps, sharpened map, mask, fsc.xml, and a README.md with the numbers",
    )  # fmt: skip
    add("--netcdf", type=output_file, metavar="FILE", help="write all results as netCDF")


def _compare(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    step = "a step: an iteration of the newest branch, or the beginning of a step's name (see lrwidgets info --json)"
    add("run", type=Path, metavar="RUN.zarr", help="a run")
    add("first", metavar="A", help=step)
    add("second", metavar="B", help="another step")
    add("--plot", type=output_file, metavar="FILE", help="plot maps, FSC and changes of the poses (PNG)")
    add(
        "--held-out", type=nonnegative_int, default=2000, metavar="N",
        help="number of held-out images whose likelihood ranks the steps (default: 2000; 0: read no images)",
    )  # fmt: skip
    add(
        "--local", action="store_true",
        help="also compare the local resolution, which takes minutes for a large box",
    )  # fmt: skip


def _reconstruct(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("particles", type=Path, metavar="PARTICLES", help=".star, .cs or .csg file with 3D poses, or a job folder")
    add("--out", type=output_file, required=True, metavar="MAP", help="the map to write")
    add("--half", type=int, choices=(1, 2), help="use this half set only")
    add("--symmetry", default="C1", help="point group about the box centre (default: C1)")
    add(
        "--ewald", choices=("none", "positive", "negative"), default="none",
        help="correct for the curvature of the Ewald sphere, with this sign (default: none)",
    )  # fmt: skip
    add_images(command)
    add_compute_options(command)


def _fsc(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("first", type=Path, metavar="MAP1", help="first map")
    add("second", type=Path, metavar="MAP2", help="second map, on the same grid")
    add("--mask", type=Path, help="also print the FSC inside this mask, and corrected for the mask")
    add("--conical", action="store_true", help="also print the conical FSC and how much it depends on the direction")
    add_seed(command)
    add("--apix", type=float, metavar="A", help="voxel size, instead of that in the headers")


def _locres(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("first", type=Path, metavar="HALF1", help="first half map")
    add("second", type=Path, metavar="HALF2", help="second half map")
    add("--mask", type=Path, help="region to estimate (default: a tight mask made from the half maps)")
    add("--out", type=output_file, required=True, metavar="MAP", help="map of the local resolution in A to write")
    add("--sampling", type=positive_number, metavar="A", help="distance of the points (default: a fifth of --window)")
    add(
        "--window", type=positive_number, metavar="A",
        help="width of the window (default: 8 times the resolution inside the mask)",
    )  # fmt: skip
    add("--threshold", type=positive_number, default=0.143, metavar="X", help="FSC threshold (default: 0.143)")
    add(
        "--cxc",
        type=output_file,
        metavar="FILE",
        help="write a ChimeraX script that colours the map by local resolution",
    )
    add("--plot", type=output_file, metavar="FILE", help="plot slices and histogram (PNG)")
    add("--apix", type=positive_number, metavar="A", help="voxel size, instead of that in the headers")
    add_threads(command)


def _filter(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("maps", type=Path, nargs="+", metavar="MAP", help="a map, or two half maps")
    add("--out", type=output_file, required=True, metavar="MAP", help="the map to write")
    add(
        "--lowpass", type=positive_number, metavar="A",
        help="low-pass at this resolution (half maps: instead of weighting by their FSC)",
    )  # fmt: skip
    add("--highpass", type=positive_number, metavar="A", help="high-pass at this resolution")
    add(
        "--sharpen", type=auto_or_number, metavar="auto|B",
        help="sharpen by a B-factor in A^2 (negative sharpens); auto fits it to the Guinier plot of half maps",
    )  # fmt: skip
    add("--local", type=Path, metavar="LOCRES", help="low-pass each voxel at its local resolution, a map from locres")
    add("--mask", type=Path, help="mask for the FSC of the half maps (default: a tight mask made from them)")
    add_seed(command)
    add("--apix", type=positive_number, metavar="A", help="voxel size, instead of that in the headers")
    add_threads(command)


def _info(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, metavar="FILE", help="a particle file, map, stack, run or job folder")


def _convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, metavar="A", help=".star, .cs or .csg file; its images are not needed")
    command.add_argument("target", type=output_file, metavar="B", help=".star or .cs file to write")
    command.add_argument(
        "--plain",
        action="store_true",
        help="write RELION's own columns only to a .star; other columns are lost when it is converted back",
    )


def _expand(command: argparse.ArgumentParser) -> None:
    add_particles_to_file(command)
    command.add_argument("--symmetry", required=True, help="point group about the box centre, such as D2")


def _duplicates(command: argparse.ArgumentParser) -> None:
    add_particles_to_file(command)
    command.add_argument(
        "--distance", type=float, metavar="A", help="also remove neighbours on a micrograph that are closer than this"
    )
    command.add_argument(
        "--micrograph-apix", type=positive_number, metavar="A",
        help="pixel size of the micrographs that --distance is measured on (default: that in the file)",
    )  # fmt: skip


def _mask(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("map", type=Path, nargs="+", metavar="MAP", help="a map, or two half maps; also defines the grid of the mask")
    add("--out", type=output_file, required=True, metavar="MASK", help="the mask to write")
    add(
        "--threshold", type=auto_or_number, metavar="auto|X",
        help="threshold of the low-passed map (default: auto; with shapes, none)",
    )  # fmt: skip
    add(
        "--lowpass", type=nonnegative_number, default=12.0, metavar="A",
        help="low-pass the map at this resolution before thresholding (default: 12; 0: do not)",
    )  # fmt: skip
    add(
        "--components", type=int, metavar="N",
        help="keep the N largest connected components (0: all; default: 1 for a map, all for shapes)",
    )  # fmt: skip
    add("--at", metavar="POINT", help="keep the connected component at this point instead")
    add(
        "--dilate", type=finite_number, metavar="A",
        help="dilate, or erode if negative (default: 3 with a threshold, else 0)",
    )  # fmt: skip
    add("--fill", action="store_true", help="fill holes")
    add(
        "--soft", type=nonnegative_number, metavar="A",
        help="width of the soft edge (default: 5 x --resolution, or 15)",
    )  # fmt: skip
    add(
        "--resolution", type=nonnegative_number, metavar="A",
        help="resolution that the refinement is expected to reach; the width of the edge is checked against it",
    )  # fmt: skip
    _add_mask_shapes(command)
    _add_mask_operations(command)
    add("--apix", type=nonnegative_number, metavar="A", help="voxel size, instead of that in the headers")


def _add_mask_shapes(command: argparse.ArgumentParser) -> None:
    """Add the options for shapes and atomic models."""
    group = command.add_argument_group(
        "shapes",
        "A mask of the shapes alone or, with --threshold, of the density inside them. POINT: box (its centre), "
        "'x, y, z px' or 'x, y, z A' from the corner of the box, or 'x, y, z map', as for a fulcrum. Lengths in A. "
        "May be repeated.",
    )
    shape = partial(group.add_argument, action="append", default=[])
    shape("--sphere", nargs=2, metavar=("POINT", "RADIUS"), help="sphere about POINT")
    shape("--box", nargs=2, metavar=("POINT", "SIZE"), help="box about POINT; SIZE: one length, or x,y,z")
    shape(
        "--cylinder", nargs=4, metavar=("POINT", "AXIS", "RADIUS", "LENGTH"),
        help="cylinder about POINT; AXIS: x, y, z, or a vector x,y,z",
    )  # fmt: skip
    group.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="region near the atoms of a PDB or mmCIF file, in the frame of the map",
    )
    group.add_argument(
        "--select", metavar="SEL", help="atoms of the model to use, such as //A,B or //A/10-120 (default: all)"
    )
    group.add_argument(
        "--radius", type=nonnegative_number, metavar="A", help="maximum distance from an atom (default: 5)"
    )


def _add_mask_operations(command: argparse.ArgumentParser) -> None:
    """Add the options that combine the mask with others."""
    group = command.add_argument_group("other masks", "Combined with the soft mask, in the order given.")
    for operation, text in (
        ("and", "minimum of the mask and M"),
        ("or", "maximum of the mask and M"),
        ("subtract", "minimum of the mask and 1 - M"),
    ):
        group.add_argument(
            f"--{operation}", type=partial(mask_operation, operation), dest="joined", action="append", default=[],
            metavar="M", help=text,
        )  # fmt: skip
    group.add_argument("--invert", action="store_true", help="1 - mask, after all other operations")


def _resample(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("map", type=Path, metavar="MAP", help="a map or mask")
    add("--like", type=Path, metavar="MAP2", help="map, mask or image stack whose box and voxel size to take")
    add("--box", type=positive_int, metavar="N", help="new box in voxels (default: the present extent)")
    add(
        "--apix", type=positive_number, metavar="A",
        help="new voxel size (default: that with which --box has the present extent)",
    )  # fmt: skip
    add("--from-apix", type=positive_number, metavar="A", help="voxel size of MAP, instead of that in its header")
    add(
        "--as", dest="kind", choices=("auto", "map", "mask"), default="auto",
        help="a mask is clipped to 0 and 1 (default: auto, a mask if all values lie there)",
    )  # fmt: skip
    add("--out", type=output_file, required=True, metavar="FILE", help="the map to write")


def _subtract(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "particles", type=Path, metavar="RUN-or-PARTICLES",
        help="a run, a job folder, or a .star, .cs or .csg file with 3D poses",
    )  # fmt: skip
    add("--mask", type=Path, help="soft mask of the region to KEEP; density outside it is subtracted from the images")
    add(
        "--half-maps", type=Path, nargs="+", default=[], metavar="MAP",
        help="two half maps at these poses, or a volume .csg (default: reconstructed from the particles)",
    )  # fmt: skip
    add("--back", action="store_true", help="restore the original images, at the current poses")
    add(
        "--out", type=output_table_or_folder, required=True, metavar="DIR-or-FILE",
        help="folder, or .star or .cs file, to write; the image stack goes to the same folder",
    )  # fmt: skip
    add_images(command, "folder of the image stacks (with --back, of the original ones)")
    add("--apix", type=float, metavar="A", help="voxel size of mask and half maps, instead of that in their headers")
    add_compute_options(command)


def _motion(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add_step(command)
    add(
        "--out",
        type=output_file,
        metavar="FILE.nc",
        help="write principal motions and coordinates of the particles (netCDF)",
    )
    add("--plot", type=output_file, metavar="FILE", help="plot fulcrum, principal motions and particles (PNG)")
    add("--maps", type=output_folder, metavar="DIR", help="write maps along a principal motion, with a ChimeraX script")
    add("--number", type=positive_int, default=1, metavar="K", help="principal motion of --maps (default: 1)")
    add(
        "--bins", type=nonnegative_int, default=0, metavar="N",
        help="also reconstruct the particles of N bins along the motion of --maps (default: 0, none)",
    )  # fmt: skip


def _uncertainty(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add_step(command)
    add_images(command)
    add("--out", type=output_file, metavar="FILE.nc", help="write SDs, covariances and offsets of the poses (netCDF)")
    add("--plot", type=output_file, metavar="FILE", help="plot histograms of the SDs (PNG)")
    add(
        "--backend", choices=("auto", "cpu", "cuda"), default="auto",
        help="where to compute (default: auto, the GPU if there is one)",
    )  # fmt: skip
    add_threads(command)


def _classify(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add_step(command)
    add("--classes", type=positive_int, nargs="+", default=[2], metavar="K",
        help="number of classes; several numbers are compared by held-out images, and one is chosen (default: 2)",
    )  # fmt: skip
    add("--empty-class", action="store_true", help="add a class without density, for particles without the body")
    add(
        "--resolution", type=positive_number, metavar="A",
        help="finest resolution used to classify (default: that of the iteration, but not finer than 6 A)",
    )  # fmt: skip
    add(
        "--maps", type=Path, nargs="+", default=[], metavar="MAP",
        help="start from these maps, one for each class (default: from random subsets)",
    )  # fmt: skip
    add("--starts", type=positive_int, default=3, metavar="N", help="random starts; the best is kept (default: 3)")
    add(
        "--annealing", type=nonnegative_int, default=25, metavar="N",
        help="iterations at first with a softened assignment (default: 25)",
    )  # fmt: skip
    add(
        "--max-iterations", type=positive_int, default=60, metavar="N",
        help="largest number of iterations from each start (default: 60)",
    )  # fmt: skip
    add(
        "--switching", type=positive_number, default=0.01, metavar="SHARE",
        help="converged when fewer particles than this share change their class (default: 0.01)",
    )  # fmt: skip
    add("--seed", type=nonnegative_int, default=0, metavar="N", help="seed of the random starts (default: 0)")
    add_images(command)
    add_compute_options(command)
    add("--out", type=output_folder, required=True, metavar="FOLDER", help="folder to write")


def _check(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN.zarr", help="a run; it is not changed")


def _sweep(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("run", type=Path, metavar="RUN.zarr", help="a run")
    add(
        "--over", required=True, action="append", metavar="NAME=V,V,...",
        help="a parameter and the values to try, separated by ; if they contain commas; may be repeated",
    )  # fmt: skip
    add(
        "--subset", type=positive_int, default=2000, metavar="N",
        help="number of particles, half of them from each half set (default: 2000)",
    )  # fmt: skip
    add_images(command)
    add(
        "--out", type=output_file, metavar="FILE.nc", help="write the table as netCDF, with one dimension per parameter"
    )
    add("--plot", type=output_file, metavar="FILE", help="plot the ranking (PNG)")


def _tree(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN.zarr", help="a run")


def _advise(command: argparse.ArgumentParser) -> None:
    add_step(command)
    command.add_argument(
        "--mask-out", type=output_file, metavar="FILE.mrc", help="write the suggested mask, if a finding suggests one"
    )


def _select(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("run", type=Path, metavar="RUN-or-PARTICLES", help="a run, a job folder, or a .star, .cs or .csg file")
    add("--iteration", type=int, metavar="N", help="iteration of the newest branch of a run (default: its last)")
    add("--out", type=output_file, required=True, metavar="FILE", help=".star or .cs file to write")
    for name, text in (
        ("max-angle-sd", "maximum SD of the rotation, degrees"),
        ("max-shift-sd", "maximum SD of the shift, A"),
        ("max-angle-change", "maximum rotation from the input pose, degrees"),
        ("max-shift-change", "maximum shift from the input pose, A"),
        ("min-mode-probability", "minimum probability of the posterior mode that holds the pose"),
        ("min-presence", "minimum probability that the image holds the body"),
    ):
        add(f"--{name}", type=float, metavar="X", help=f"of a run: {text}")
    add(
        "--optics-group", action="append", default=[], metavar="NAME",
        help="optics group, by its name or, in a particle file, its number; may be repeated",
    )  # fmt: skip
    add("--pixel-size", type=positive_number, metavar="A", help="of a particle file: pixel size of the images")
    add("--box", type=positive_int, metavar="N", help="of a particle file: box of the images in pixels")


def _recenter(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "particles", type=Path, metavar="RUN-or-PARTICLES",
        help="a run, a job folder, or a .star, .cs or .csg file with 3D poses",
    )  # fmt: skip
    add(
        "--point", metavar="POINT",
        help="new centre: mask (its centre of mass; the default), box, 'x, y, z px', 'x, y, z A' or 'x, y, z map'",
    )  # fmt: skip
    add("--box", type=positive_int, metavar="N", help="new box in pixels (default: unchanged)")
    add("--back", action="store_true", help="restore the original images, box and centre, at the current poses")
    add("--map", type=Path, nargs="+", default=[], metavar="MAP", help="maps to move as well")
    add(
        "--half-maps", type=Path, nargs="+", default=[], metavar="MAP",
        help="two half maps to move as well, or a volume .csg",
    )  # fmt: skip
    add("--mask", type=Path, help="mask to move as well")
    add_images(command, "folder of the image stacks (with --back, of the original ones)")
    add("--apix", type=float, metavar="A", help="voxel size of maps and mask, instead of that in their headers")
    add("--out", type=output_folder, required=True, metavar="DIR", help="folder to write")


def _napari(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, nargs="?", metavar="RUN.zarr", help="a run to open (default: none)")
    command.add_argument(
        "--read-only", action="store_true", help="view the run only, for example while another process continues it"
    )


def _bench(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--quick", action="store_true", help="smaller workloads, a minute or two, without the RELION refinement")
    add("--only", nargs="+", metavar="NAME", help="run these benchmarks only")
    add_threads(command)
    add("--data", type=Path, metavar="DIR", help="folder of the data set two_body, for the comparison with RELION")
    add(
        "--relion-iterations", type=all_or_positive_int, metavar="N",
        help="stop RELION after N iterations (default: all, until it converges)",
    )  # fmt: skip
    add(
        "--relion-total", type=positive_int, metavar="N",
        help="extrapolate the time of a stopped RELION to N iterations",
    )  # fmt: skip


COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "demo": (_demo, "simulate a flexible particle, refine its moving body, and write figures and a run"),
    "refine": (_refine, "refine a masked region of particles with known poses"),
    "export": (_export, "write an iteration of a run for other programs"),
    "compare": (_compare, "report the differences between two steps of a run"),
    "reconstruct": (_reconstruct, "reconstruct a map from particles at their poses"),
    "fsc": (_fsc, "calculate the Fourier shell correlation of two maps"),
    "locres": (_locres, "estimate the local resolution from two half maps"),
    "filter": (_filter, "filter or sharpen a map, or two half maps by their FSC"),
    "info": (_info, "describe a particle file, map, image stack, run or job folder"),
    "convert": (_convert, "convert particle metadata from .star to .cs or back without losing columns"),
    "expand": (_expand, "expand the symmetry of particles: write each once per operator of a point group"),
    "duplicates": (_duplicates, "remove particles that occur more than once"),
    "resample": (_resample, "resample a map or mask to another box and voxel size"),
    "mask": (_mask, "make a soft mask from a map, shapes, an atomic model and other masks"),
    "subtract": (_subtract, "subtract the density outside a mask from the images"),
    "motion": (_motion, "estimate the fulcrum and the motion of the refined body from a run"),
    "uncertainty": (_uncertainty, "estimate the uncertainty of each pose of a run by sampling its posterior"),
    "classify": (_classify, "sort the particles of a run into classes of the body at fixed poses"),
    "check": (_check, "verify every step and mask of a run by its checksum"),
    "sweep": (_sweep, "try parameter values on a subset of the particles of a run and rank them"),
    "tree": (_tree, "show the steps and branches of a run"),
    "advise": (_advise, "check a step of a run and suggest better settings"),
    "select": (_select, "select particles of a run by their poses, or of a file by their optics group"),
    "recenter": (_recenter, "move particles, maps and mask to another centre and into another box"),
    "napari": (_napari, "open the napari viewer with the panel, with or without a run"),
    "bench": (_bench, "measure speed and memory on this machine"),
}
"""Name of a command, which is that of its module → the function that adds its options, and its help."""
