"""The same refinement from STAR, .csg, .cs and converted files: the same poses and maps, as far as a file can say them.

A .cs holds poses as float32, of which the last bit of a rotation is 1e-5 degree; a STAR file here has six decimals.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lrcore.arrays import Float64
from lrcore.compute.backend import Backend
from lrcore.io import read_particles
from lrcore.maps.fsc import masked_fsc
from lrcore.records import Particles, Step
from lrcore.refinement.parameters import RefineSpec
from lrcore.testing import rotation_error_deg
from lrwidgets.cli._main import main
from tests.fakes import same_bits
from tests.validation.judge import SimulatedCase, mean_map, print_measurement, refine

ITERATIONS = 1
"""One: from the second on, a single mode that is merged with its neighbour or not by the last bit reaches all poses."""
IMAGES = 400
"""The first ones of the stack are refined: what a file says of one particle does not depend on the others."""
CLOSE_DEG, CLOSE_A = 1e-3, 1e-3
"""For nine particles in ten: a search that takes a step more or less is off by more."""
FAR_DEG, FAR_A = 0.1, 0.05
"""For all: a few hundredths of what the poses are sure to."""


@dataclass(frozen=True)
class Ended:
    """A refinement's particles and its last step, rows in the order of the images."""

    particles: Particles
    step: Step


@pytest.fixture(scope="module")
def folder(two_body: SimulatedCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """two_body's files and what `lrwidgets convert` makes of them."""
    folder = tmp_path_factory.mktemp("formats")
    for name in ("particles.star", "particles.mrcs"):
        (folder / name).symlink_to(two_body.folder / name)
    shutil.copytree(two_body.folder / "J42", folder / "J42")
    for name in ("consensus_half1.mrc", "consensus_half2.mrc"):
        (folder / name).symlink_to(two_body.folder / name)
    csg = folder / "J42" / "P1_J42_particles.csg"
    for source, target in (
        (folder / "particles.star", "from_star.cs"),
        (folder / "from_star.cs", "from_star_and_back.star"),
        (csg, "from_csg.star"),
        (folder / "from_csg.star", "from_csg_and_back.cs"),
    ):
        assert main(["convert", str(source), str(folder / target)]) == 0
    return folder


@pytest.fixture(scope="module")
def ended(two_body: SimulatedCase, folder: Path, backend: Backend) -> dict[str, Ended]:
    """A refinement from each file."""
    names = ["particles.star", "J42/P1_J42_particles.csg", "J42/J42_010_particles.cs", "from_star.cs"]
    names += ["from_star_and_back.star", "from_csg.star", "from_csg_and_back.cs"]
    found = {}
    for name in names:
        particles = read_particles(folder / name)
        particles = particles.select(np.flatnonzero(particles.images.index < IMAGES))
        job = replace(two_body, particles=particles).job()
        job = replace(job, spec=RefineSpec(max_iterations=ITERATIONS))
        found[Path(name).name] = Ended(particles, refine(job, backend)[1])
    return found


def apart(one: Ended, other: Ended) -> tuple[Float64, Float64, float]:
    """Differences of the poses, in degrees and Å (n,), and of the maps: 1 − FSC in the worst shell."""
    poses = [e.step.expectation.poses.select(np.argsort(e.particles.images.index)) for e in (one, other)]
    alike = masked_fsc(mean_map(one.step), mean_map(other.step), None)
    shift = np.linalg.norm(poses[0].origin_A - poses[1].origin_A, axis=1)
    return rotation_error_deg(*poses), shift, float(1 - alike[1:].min())


@pytest.mark.parametrize(
    "name",
    ["P1_J42_particles.csg", "from_star.cs", "from_star_and_back.star", "from_csg.star", "from_csg_and_back.cs"],
)
def test_every_file_ends_at_the_same_poses_and_map(ended: dict[str, Ended], name: str) -> None:
    turn, shift, maps = apart(ended["particles.star"], ended[name])
    print_measurement(
        f"particles.star and {name}: poses differ by {turn.max():.1e}° and {shift.max():.1e} Å at most, in the"
    )
    print_measurement(f"middle {np.median(turn):.1e}° and {np.median(shift):.1e} Å; maps by {maps:.1e}")
    assert np.quantile(turn, 0.9) < CLOSE_DEG
    assert np.quantile(shift, 0.9) < CLOSE_A
    assert turn.max() < FAR_DEG
    assert shift.max() < FAR_A
    assert 0 < maps < 5e-4  # one such mode in the map of one particle of 400


def test_a_group_and_its_tables_end_at_the_same_bits(ended: dict[str, Ended]) -> None:
    """Where both files hold the same numbers, nothing differs; the timings and the memory alone are others."""
    one, other = (ended[name].step for name in ("P1_J42_particles.csg", "J42_010_particles.cs"))
    assert same_bits(one.expectation, other.expectation)
    assert same_bits(one.half_maps, other.half_maps)
    assert same_bits(one.fsc, other.fsc)
