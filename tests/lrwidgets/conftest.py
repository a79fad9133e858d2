"""Small real files for the command line: a STAR with its stack, a mask and two half maps; sessions without numerics."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from lrcore import io
from lrcore.masks import soft_sphere
from lrcore.records import Volume
from lrwidgets.session.session import Session
from tests.fakes import BOX, PIXEL, FakeEngine, make_job, make_particles, make_step


@dataclass(frozen=True)
class Files:
    """Paths of an input; all in one folder."""

    folder: Path
    star: Path
    stack: Path
    mask: Path
    halves: tuple[Path, Path]

    def refine(self, out: Path, *more: str) -> list[str]:
        """Arguments of a refinement."""
        maps = [str(path) for path in self.halves]
        return ["refine", str(self.star), "--mask", str(self.mask), "--half-maps", *maps, "--out", str(out), *more]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Input in `input/`, so that `tmp_path` itself is free for output."""
    return make_files(tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Input that no test of a module changes."""
    return make_files(tmp_path_factory.mktemp("kept"))


def make_files(above: Path) -> Files:
    """Ten particles, a mask and two half maps in `input/` below a folder."""
    folder = above / "input"
    folder.mkdir()
    stack, particles = folder / "s.mrcs", make_particles(10)
    with mrcfile.new(stack) as mrc:
        mrc.set_data(np.random.default_rng(0).normal(0, 1, (10, BOX, BOX)).astype(np.float32))
        mrc.voxel_size = PIXEL
    particles = replace(particles, path=folder / "p.star", images=replace(particles.images, stacks=(stack,)))
    io.write_particles(folder / "p.star", particles, particles.poses)
    io.write_volume(folder / "mask.mrc", Volume(soft_sphere(BOX, 1.5, 3.5), PIXEL))
    maps = make_step(make_job()).half_maps
    halves = (folder / "half1.mrc", folder / "half2.mrc")
    for path, volume in zip(halves, (maps.first, maps.second), strict=True):
        io.write_volume(path, Volume(volume.data, PIXEL))
    return Files(folder, folder / "p.star", stack, folder / "mask.mrc", halves)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def session(engine: FakeEngine) -> Iterator[Session]:
    with Session(make_job(), engine=engine) as session:
        yield session


@pytest.fixture
def gated() -> Iterator[tuple[Session, FakeEngine, threading.Semaphore]]:
    """A session whose every chunk waits for a permit."""
    gate = threading.Semaphore(0)
    engine = FakeEngine(gate=gate)
    with Session(make_job(), engine=engine) as session:
        yield session, engine, gate
        for _ in range(1000):
            gate.release()
