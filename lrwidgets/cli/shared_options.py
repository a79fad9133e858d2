"""Add the options that several commands share."""

import argparse
from pathlib import Path

from lrwidgets.cli.option_types import output_file, positive_int


def add_compute_options(command: argparse.ArgumentParser) -> None:
    """Add --backend and --threads."""
    command.add_argument(
        "--backend",
        choices=("auto", "cpu", "cuda", "reference"),
        default="auto",
        help="where to compute (default: auto, the GPU if there is one)",
    )
    add_threads(command)


def add_threads(command: argparse.ArgumentParser) -> None:
    """Add --threads."""
    command.add_argument(
        "--threads", type=positive_int, metavar="N", help="number of threads (default: all cores of this process)"
    )


def add_images(command: argparse.ArgumentParser, text: str = "folder of the image stacks") -> None:
    """Add --images."""
    command.add_argument("--images", type=Path, metavar="DIR", help=text)


def add_seed(command: argparse.ArgumentParser) -> None:
    """Add --seed of an FSC."""
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the phase randomisation (default: 0)"
    )


def add_step(command: argparse.ArgumentParser) -> None:
    """Add a run and --iteration, which select a step."""
    command.add_argument("run", type=Path, metavar="RUN.zarr", help="a run")
    command.add_argument(
        "--iteration", type=int, metavar="N", help="iteration of the newest branch (default: its last)"
    )


def add_particles_to_file(command: argparse.ArgumentParser) -> None:
    """Add a particle file, the folder of its images, and the file to write."""
    command.add_argument("particles", type=Path, metavar="PARTICLES", help=".star, .cs or .csg file with 3D poses")
    add_images(command)
    command.add_argument("--out", type=output_file, required=True, metavar="FILE", help=".star or .cs file to write")
