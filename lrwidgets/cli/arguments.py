"""The command line: arguments in, exit status out. 0 is success, 2 unusable input told in one line."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from lrcore.errors import InputError
from lrwidgets import __version__


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}: see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object a line, for programs"
    )
    top = _Parser(
        prog="lrwidgets", description="Local refinement of cryo-EM particles, step by step.", parents=[shared]
    )
    top.add_argument("--version", action="version", version=f"lrwidgets {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (build, text) in COMMANDS.items():
        build(commands.add_parser(name, help=text, description=text, parents=[shared]))
    return top


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder to write (default: demo)"
    )
    _computing(command)


def _refine(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "particles", type=Path, metavar="PARTICLES", help=".star, .cs or .csg with 3D poses, or a job folder"
    )
    command.add_argument("--mask", type=Path, help="soft mask of the region (may be left out with --resume)")
    command.add_argument(
        "--half-maps", type=Path, nargs="+", default=[], metavar="MAP", help="two half maps, or a volume .csg"
    )
    command.add_argument("--spec", type=Path, metavar="FILE.toml", help="parameters, one name = value a line")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter; beats --spec; may be repeated"
    )
    command.add_argument("--iterations", type=int, metavar="N", help="at most so many: the same as max_iterations=N")
    command.add_argument("--seed", type=int, metavar="N", help="seed of everything random")
    command.add_argument(
        "--subset", type=_positive, metavar="N", help="only N particles, drawn at random, halves balanced"
    )
    command.add_argument(
        "--resplit", action="store_true", help="into new half sets, drawn by the seed; half maps are made anew"
    )
    command.add_argument("--images", type=Path, metavar="DIR", help="folder of the image stacks")
    command.add_argument("--apix", type=float, metavar="A", help="voxel size of mask and half maps, over their headers")
    command.add_argument("--out", type=Path, required=True, metavar="RUN.zarr", help="the run: a new folder")
    command.add_argument("--resume", action="store_true", help="go on with RUN.zarr from its last whole iteration")
    command.add_argument("--workers", type=_positive, metavar="N", help="share the images out to N processes here")
    command.add_argument("--scheduler", metavar="tcp://...", help="or to the workers of this dask scheduler")
    command.add_argument(
        "--worker-threads", type=_positive, metavar="N", help="of each worker (default: its share of the cores here; 1)"
    )
    _computing(command)


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN.zarr")
    command.add_argument("--iteration", type=int, metavar="N", help="of the newest branch (default: its last)")
    command.add_argument("--star", type=Path, metavar="FILE", help="particles with new poses for RELION")
    command.add_argument("--cs", type=Path, metavar="FILE", help="the same for CryoSPARC, with a .csg beside it")
    command.add_argument("--maps", type=Path, metavar="DIR", help="half maps, filtered map and mask as MRC")
    command.add_argument("--fsc-xml", type=Path, metavar="FILE", help="the corrected FSC as EMDB takes it")
    command.add_argument("--fsc-star", type=Path, metavar="FILE", help="the FSC curves as RELION's postprocess.star")
    command.add_argument(
        "--chimerax", type=Path, metavar="DIR", help="map, mask, fulcrum and motion, with scene.cxc to open them by"
    )
    command.add_argument("--netcdf", type=Path, metavar="FILE", help="all results as netCDF")


def _compare(command: argparse.ArgumentParser) -> None:
    step = "a step: an iteration of the newest branch, or how the name of a step begins (lrwidgets info --json)"
    command.add_argument("run", type=Path, metavar="RUN.zarr")
    command.add_argument("first", metavar="A", help=step)
    command.add_argument("second", metavar="B", help="another step")
    command.add_argument("--plot", type=Path, metavar="FILE", help="maps, FSC and changes of the poses as PNG")
    command.add_argument(
        "--held-out", type=_whole, default=2000, metavar="N",
        help="images by whose likelihood the steps are judged (default: 2000; 0: none, and no image is read)",
    )  # fmt: skip
    command.add_argument(
        "--local", action="store_true", help="and the local resolution of both, in minutes for a large box"
    )


def _reconstruct(command: argparse.ArgumentParser) -> None:
    command.add_argument("particles", type=Path, metavar="PARTICLES", help=".star, .cs, .csg or a job folder")
    command.add_argument("--out", type=Path, required=True, metavar="MAP")
    command.add_argument("--half", type=int, choices=(1, 2), help="one half set only")
    command.add_argument("--symmetry", default="C1", help="point group about the box centre (default: C1)")
    command.add_argument(
        "--ewald", choices=("none", "positive", "negative"), default="none", help="insert onto the Ewald sphere"
    )
    command.add_argument("--images", type=Path, metavar="DIR", help="folder of the image stacks")
    _computing(command)


def _fsc(command: argparse.ArgumentParser) -> None:
    command.add_argument("first", type=Path, metavar="MAP1")
    command.add_argument("second", type=Path, metavar="MAP2")
    command.add_argument("--mask", type=Path, help="adds the FSC inside the mask, and corrected for it")
    command.add_argument("--conical", action="store_true", help="adds the FSC by direction, and how far they differ")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the phase randomisation")
    command.add_argument("--apix", type=float, metavar="A", help="voxel size, over the headers")


def _locres(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("first", type=Path, metavar="HALF1")
    add("second", type=Path, metavar="HALF2")
    add("--mask", type=Path, help="where to look (default: a tight mask made of the half maps)")
    add("--out", type=Path, required=True, metavar="MAP", help="the local resolution in A, as a map")
    add("--sampling", type=_above_zero, metavar="A", help="distance of the points (default: a fifth of the window)")
    add("--window", type=_above_zero, metavar="A", help="width of the window (default: 8 x the resolution in the mask)")
    add("--threshold", type=_above_zero, default=0.143, metavar="X", help="FSC that is the resolution (default: 0.143)")
    add("--cxc", type=Path, metavar="FILE", help="commands for ChimeraX that colour the map by it")
    add("--plot", type=Path, metavar="FILE", help="slices and histogram as PNG")
    add("--apix", type=_above_zero, metavar="A", help="voxel size, over the headers")
    add("--threads", type=_positive, metavar="N", help="default: all cores of this process")


def _filter(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("maps", type=Path, nargs="+", metavar="MAP", help="a map, or two half maps")
    add("--out", type=Path, required=True, metavar="MAP", help="the map to write")
    add("--lowpass", type=_above_zero, metavar="A", help="remove what is finer (of half maps: instead of by their FSC)")
    add("--highpass", type=_above_zero, metavar="A", help="remove what is coarser")
    add("--sharpen", type=_bfactor, metavar="auto|B", help="by a B-factor in A^2 (below 0 sharpens), or by Guinier's")
    add("--local", type=Path, metavar="LOCRES", help="low-pass every voxel at its local resolution, from locres")
    add("--mask", type=Path, help="where the FSC of two half maps counts (default: a tight mask made of them)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the phase randomisation")
    add("--apix", type=_above_zero, metavar="A", help="voxel size, over the headers")
    add("--threads", type=_positive, metavar="N", help="default: all cores of this process")


def _info(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, metavar="FILE", help="a file, a run or a job folder")


def _convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, metavar="A", help=".star, .cs or .csg; no images are needed")
    command.add_argument("target", type=Path, metavar="B", help=".star or .cs to write")
    command.add_argument(
        "--plain", action="store_true", help="of .star: RELION's columns alone, so that the way back loses the others"
    )


def _expand(command: argparse.ArgumentParser) -> None:
    _particles_to_file(command)
    command.add_argument("--symmetry", required=True, help="point group about the box centre, such as D2")


def _duplicates(command: argparse.ArgumentParser) -> None:
    _particles_to_file(command)
    command.add_argument(
        "--distance", type=float, metavar="A", help="in a micrograph, particles nearer than this are the same, too"
    )


def _motion(command: argparse.ArgumentParser) -> None:
    _add_run_arguments(command)
    command.add_argument(
        "--out", type=Path, metavar="FILE.nc", help="principal motions and the particles' places on them"
    )
    command.add_argument("--plot", type=Path, metavar="FILE", help="fulcrum, principal motions and particles as PNG")
    command.add_argument(
        "--maps", type=Path, metavar="DIR", help="maps along a principal motion, with a ChimeraX script"
    )
    command.add_argument("--number", type=_positive, default=1, metavar="K", help="of that motion (default: 1)")
    command.add_argument(
        "--bins", type=_whole, default=0, metavar="N", help="and reconstruct particles in N bins of it"
    )


def _uncertainty(command: argparse.ArgumentParser) -> None:
    _add_run_arguments(command)
    add = command.add_argument
    add("--images", type=Path, metavar="DIR", help="folder of the image stacks")
    add("--out", type=Path, metavar="FILE.nc", help="SDs, covariances and offsets of the particles as netCDF")
    add("--plot", type=Path, metavar="FILE", help="histograms of the SDs as PNG")
    add("--backend", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    add("--threads", type=_positive, metavar="N", help="default: all cores of this process")


def _sweep(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("run", type=Path, metavar="RUN.zarr")
    add(
        "--over", required=True, action="append", metavar="NAME=V,V,...",
        help="a parameter and the values to try (between ; where they hold commas); may be repeated",
    )  # fmt: skip
    add("--subset", type=_positive, default=2000, metavar="N", help="particles, half of them from each half set")
    add("--images", type=Path, metavar="DIR", help="folder of the image stacks")
    add("--out", type=Path, metavar="FILE.nc", help="the table as netCDF, a dimension for each parameter")
    add("--plot", type=Path, metavar="FILE", help="the ranking as PNG")


def _add_run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN.zarr")
    command.add_argument("--iteration", type=int, metavar="N", help="of the newest branch (default: its last)")


def _advise(command: argparse.ArgumentParser) -> None:
    _add_run_arguments(command)
    command.add_argument(
        "--mask-out", type=Path, metavar="FILE.mrc", help="write the better mask, where one is advised"
    )


def _select(command: argparse.ArgumentParser) -> None:
    _add_run_arguments(command)
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="particles to write, .star or .cs")
    for name, text in (
        ("max-angle-sd", "SD of the rotation, degree, at most"),
        ("max-shift-sd", "SD of the shift, A, at most"),
        ("max-angle-change", "rotation from the input pose, degree, at most"),
        ("max-shift-change", "shift from the input pose, A, at most"),
        ("min-mode-probability", "probability of the mode that the pose is in, at least"),
    ):
        command.add_argument(f"--{name}", type=float, metavar="X", help=text)


def _check(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN.zarr", help="a run; nothing in it is changed")


def _tree(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN.zarr")


def _napari(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, nargs="?", metavar="RUN.zarr", help="a run to go on with (default: none)")
    command.add_argument("--read-only", action="store_true", help="only look: another process goes on with the run")


def _recenter(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "particles", type=Path, metavar="RUN-or-PARTICLES", help="a run, a job folder, or .star, .cs or .csg"
    )
    command.add_argument("--point", metavar="POINT", help="mask (default), box, 'x, y, z px' or 'x, y, z A'")
    command.add_argument("--box", type=_positive, metavar="N", help="new box in pixels (default: as it is)")
    command.add_argument("--back", action="store_true", help="undo it: images, box and origins from before")
    command.add_argument("--map", type=Path, nargs="+", default=[], metavar="MAP", help="maps that go along")
    command.add_argument("--half-maps", type=Path, nargs="+", default=[], metavar="MAP", help="two, or a volume .csg")
    command.add_argument("--mask", type=Path, help="the mask, which goes along")
    command.add_argument("--images", type=Path, metavar="DIR", help="folder of the image stacks (from before)")
    command.add_argument("--apix", type=float, metavar="A", help="voxel size of maps and mask, over their headers")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for all that is written")


def _subtract(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "particles",
        type=Path,
        metavar="RUN-or-PARTICLES",
        help="a run, a job folder, or .star, .cs or .csg with 3D poses",
    )
    add("--mask", type=Path, help="what is KEPT, with a soft edge: density outside of it is taken from the images")
    add(
        "--half-maps", type=Path, nargs="+", default=[], metavar="MAP",
        help="two half maps at these poses, or a volume .csg (default: reconstructed from the particles)",
    )  # fmt: skip
    add("--back", action="store_true", help="undo it: the images from before, at the poses found since")
    add("--out", type=Path, required=True, metavar="DIR-or-FILE", help="folder, or .star or .cs, for what is written")
    add("--images", type=Path, metavar="DIR", help="folder of the image stacks (from before)")
    add("--apix", type=float, metavar="A", help="voxel size of mask and half maps, over their headers")
    _computing(command)


def _particles_to_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("particles", type=Path, metavar="PARTICLES", help=".star, .cs or .csg with 3D poses")
    command.add_argument("--images", type=Path, metavar="DIR", help="folder of the image stacks")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help=".star or .cs to write")


def _mask(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("map", type=Path, nargs="+", metavar="MAP", help="a map, or two half maps; the grid of the mask")
    add("--out", type=Path, required=True, metavar="MASK", help="the mask to write")
    add(
        "--threshold",
        type=_threshold,
        metavar="auto|X",
        help="level of the low-passed map (default: auto; with shapes: none)",
    )
    add(
        "--lowpass",
        type=_length,
        default=12.0,
        metavar="A",
        help="of the map before the threshold (default: 12; 0: none)",
    )
    add(
        "--components", type=int, metavar="N", help="keep the N largest parts (0: all; default: 1 of a map, all shapes)"
    )
    add("--at", metavar="POINT", help="keep the part that holds this point instead")
    add("--dilate", type=_finite, metavar="A", help="grow, or shrink if negative (default: 3 with a threshold, else 0)")
    add("--fill", action="store_true", help="fill holes")
    add("--soft", type=_length, metavar="A", help="width of the soft edge (default: 5 x --resolution, or 15)")
    add("--resolution", type=_length, metavar="A", help="what the refinement is to reach: the edge is judged by it")
    shapes = command.add_argument_group(
        "shapes",
        "alone, or with --threshold the only places where density counts. POINT: box, 'x, y, z px' or "
        "'x, y, z A' from the corner of the box, as for a fulcrum. Lengths in A. May be repeated.",
    )
    shape = partial(shapes.add_argument, action="append", default=[])
    shape("--sphere", nargs=2, metavar=("POINT", "RADIUS"))
    shape("--box", nargs=2, metavar=("POINT", "SIZE"), help="SIZE: one length, or x,y,z")
    shape("--cylinder", nargs=4, metavar=("POINT", "AXIS", "RADIUS", "LENGTH"), help="AXIS: x, y, z, or a vector x,y,z")
    shapes.add_argument(
        "--model", type=Path, metavar="FILE", help="atoms of a PDB or mmCIF file in the frame of the map"
    )
    shapes.add_argument("--select", metavar="SEL", help="which of them, such as //A,B or //A/10-120 (default: all)")
    shapes.add_argument("--radius", type=_length, metavar="A", help="how near to an atom (default: 5)")
    others = command.add_argument_group("other masks", "joined with the soft mask, in the order given")
    for word, text in (
        ("and", "minimum of both"),
        ("or", "maximum of both"),
        ("subtract", "minimum of this and 1 - M"),
    ):
        others.add_argument(
            f"--{word}", type=partial(_joined, word), dest="joined", action="append", default=[], metavar="M", help=text
        )
    others.add_argument("--invert", action="store_true", help="1 - mask, at the very end")
    add("--apix", type=_length, metavar="A", help="voxel size, over the headers")


def _bench(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quick", action="store_true", help="a minute or two, smaller work, not beside RELION")
    command.add_argument("--only", nargs="+", metavar="NAME", help="these benchmarks alone")
    command.add_argument("--threads", type=_positive, metavar="N", help="default: all cores of this process")
    command.add_argument("--data", type=Path, metavar="DIR", help="the data set two_body, for what is beside RELION")
    command.add_argument(
        "--relion-iterations", type=_count, metavar="N", help="stop RELION after so many (default: all, to its end)"
    )
    command.add_argument(
        "--relion-total", type=_positive, metavar="N", help="extrapolate a stopped RELION to so many iterations"
    )


def _computing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backend", choices=("auto", "cpu", "cuda", "reference"), default="auto")
    command.add_argument("--threads", type=_positive, metavar="N", help="default: all cores of this process")


def _bfactor(text: str) -> float | str:
    return text if text == "auto" else _finite(text)


def _above_zero(text: str) -> float:
    value = _finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def _threshold(text: str) -> float | str:
    return text if text == "auto" else _finite(text)


def _length(text: str) -> float:
    value = _finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _joined(word: str, text: str) -> tuple[str, Path]:
    return word, Path(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _count(text: str) -> int | None:
    return None if text == "all" else _positive(text)


COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "demo": (_demo, "simulate a flexible particle, refine its moving body, write figures and a run"),
    "refine": (_refine, "refine a masked region against particles with known poses"),
    "export": (_export, "write an iteration of a run for other programs"),
    "compare": (_compare, "tell in what two steps of a run differ"),
    "reconstruct": (_reconstruct, "reconstruct a map from particles at their poses"),
    "fsc": (_fsc, "Fourier shell correlation of two maps"),
    "locres": (_locres, "local resolution of two half maps"),
    "filter": (_filter, "filter or sharpen a map, or two half maps by their FSC"),
    "info": (_info, "say what is in a particle file, map, stack, run or job folder"),
    "convert": (_convert, "turn particle metadata from .star to .cs, or back, and lose nothing"),
    "expand": (_expand, "write every particle at each operator of a point group"),
    "duplicates": (_duplicates, "write the particles without those that are there twice"),
    "mask": (_mask, "make a soft mask from a map, shapes, a model and other masks"),
    "subtract": (_subtract, "write the images without what lies outside a mask"),
    "motion": (_motion, "estimate from a run where its body turns and how far it moves"),
    "uncertainty": (_uncertainty, "find how far each pose of a run may be off, by draws from its posterior"),
    "check": (_check, "verify every step and mask of a run by its checksum"),
    "sweep": (_sweep, "try settings on a subset, from an iteration of a run, and rank them"),
    "tree": (_tree, "show the steps of a run and its branches"),
    "advise": (_advise, "tell what a step says about its settings"),
    "select": (_select, "write the particles of a run whose poses are sure enough"),
    "recenter": (_recenter, "move particles, maps and mask onto a point and into another box"),
    "napari": (_napari, "open the napari viewer with the panel, on a run or on nothing"),
    "bench": (_bench, "measure speed and memory on this machine"),
}
"""Name of a command, which is that of its module → its arguments and its help."""
