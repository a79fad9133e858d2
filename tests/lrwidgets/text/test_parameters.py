"""Bad settings, from the command line and in a session: a sentence that says what to do, and never a crash."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.grids import radius_grid
from lrcore.io.derived_particles import with_half_sets
from lrcore.masks import cosine_edge
from lrcore.motion.fit import MIN_IMAGES
from lrcore.particles.symmetry_expansion import expand_symmetry
from lrcore.records import Progress, Step, Volume
from lrcore.refinement import job as refinement_job
from lrcore.refinement.job import Job
from lrcore.refinement.parameter_checks import parameter_warnings
from lrcore.refinement.parameters import RefineSpec
from lrwidgets.cli._main import main
from lrwidgets.session.session import Session
from tests.fakes import BOX, PIXEL, FakeEngine, make_job, make_particles
from tests.lrwidgets.conftest import Files

Out = pytest.CaptureFixture[str]


class Checking(FakeEngine):
    """Looks at the job as the core does, and makes up the rest."""

    def start(self, job: Job, backend: Any) -> Iterator[Progress | Step]:
        refinement_job.check_job(job)
        yield from super().start(job, backend)


def said(capsys: Out, argv: list[str]) -> tuple[int, list[str]]:
    """Exit status, and the lines that a refinement says on stderr."""
    capsys.readouterr()
    status = main(argv, engine=Checking())
    return status, capsys.readouterr().err.splitlines()


def round_mask(files: Files, edge: float = 4.0, centre: tuple[int, int, int] = (0, 0, 0)) -> None:
    """A soft ball as the mask, its centre (z, y, x) voxels from the middle."""
    io.write_volume(files.mask, Volume(ball(edge, centre), PIXEL))


def ball(edge: float = 4.0, centre: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    return cosine_edge(radius_grid(BOX, 3, centre), 1.0, edge)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rotation_extent_deg=200", "rotation_extent_deg = 200: input should be less than or equal to 90 (valid: >= 0"),
        ("rotation_prior_sd_deg=181", "rotation_prior_sd_deg = 181: input should be less than or equal to 90"),
        ("shift_extent_A=1e4", "shift_extent_A = 1e4: input should be less than or equal to 200"),
        ("fulcrum=9000, 0, 0 A", "fulcrum = 9000, 0, 0 A: lies 8985 A from the centre of a box of 30 A: give"),
        ("fulcrum=1e300, 0, 0 px", "fulcrum = 1e300, 0, 0 px: lies 2.5e+300 A from the centre"),
        ("fulcrum=1e999, 0, 0 A", "fulcrum = 1e999, 0, 0 A: lies inf A from the centre"),
        ("fulcrum=1.2.3, 0, 0 A", "fulcrum = 1.2.3, 0, 0 A: write mask, box, estimate, 'x, y, z px'"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    setting: str, words: str, files: Files, tmp_path: Path, capsys: Out
) -> None:
    round_mask(files)
    status, lines = said(capsys, files.refine(tmp_path / "run.zarr", "--set", setting))
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {words}")
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    ("setting", "centre", "words"),
    [
        ("fulcrum=40, 5, 5 A", (0, 0, 0), "lies outside the box of 30 A, at 40, 5, 5 A from its corner: right if"),
        ("fulcrum=-3, 0, 0 px", (0, 0, 0), "lies outside the box of 30 A, at -8, 0, 0 A from its corner"),
        ("symmetry=C4", (0, 0, 4), "the mask lies 9 A off it: the map is averaged over 1 of 4 operators, those"),
        ("fulcrum=2, 6, 6 px", (0, 0, 0), ""),
        ("symmetry=C4", (3, 0, 0), ""),
    ],
)
def test_settings_that_are_unwise_are_told(
    setting: str, centre: tuple[int, int, int], words: str, files: Files, tmp_path: Path, capsys: Out
) -> None:
    round_mask(files, centre=centre)
    status, lines = said(capsys, files.refine(tmp_path / "run.zarr", "--set", setting))
    assert status == 0
    told = [line for line in lines if line.startswith("warning:") and "cut by the border" not in line]
    assert len(told) == (1 if words else 0)
    assert words in "".join(told)


def test_a_fulcrum_off_the_axis_is_told(files: Files, tmp_path: Path, capsys: Out) -> None:
    round_mask(files)
    argv = files.refine(tmp_path / "run.zarr", "--set", "symmetry=C2", "--set", "fulcrum=1, 6, 6 px")
    status, lines = said(capsys, argv)
    assert status == 0
    assert "symmetry C2 acts about its axis, but the fulcrum lies 12 A off it" in lines[0]


@pytest.mark.parametrize(
    ("edge", "words"),
    [(0.1, "the mask is binary: it will cause ringing"), (1.9, "voxels wide: it will cause ringing"), (4.0, "")],
)
def test_a_sharp_mask_is_told(edge: float, words: str, files: Files, tmp_path: Path, capsys: Out) -> None:
    round_mask(files, edge)
    status, lines = said(capsys, files.refine(tmp_path / "run.zarr"))
    assert status == 0
    told = [line for line in lines if line.startswith("warning:")]
    assert len(told) == (1 if words else 0)
    assert words in "".join(told)
    assert not words or "(lrwidgets mask --soft)" in told[0]


def test_a_job_is_looked_at_however_it_was_made() -> None:
    """Not only what comes from files: copies of a particle in both half sets."""
    copies = expand_symmetry(make_particles(10), "C2")
    split = replace(copies, half=(np.arange(20) % 2 + 1).astype(np.int8))
    job = Job(split, Volume(ball(), PIXEL), RefineSpec())
    with pytest.raises(InputError, match=r"same image 1@s\.mrcs in different half sets"):
        refinement_job.check_job(job)


def test_an_edit_tells_what_it_makes_unwise_and_nothing_else() -> None:
    mask = Volume(ball(4.0, (0, 0, 4)), PIXEL)
    with Session(replace(make_job(), mask=mask), engine=FakeEngine()) as session:
        before = session.spec
        with pytest.raises(InputError, match=re.escape("fulcrum = 9000, 0, 0 A: lies 8985 A from the centre")):
            session.edit(fulcrum="9000, 0, 0 A")
        assert session.spec is before
        with pytest.warns(UserWarning, match="symmetry C2 acts about its axis, but the mask lies 9 A off it"):
            session.edit(symmetry="C2")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            session.edit(rotation_prior_sd_deg=4)
            session.edit(symmetry="C1")
        with pytest.warns(UserWarning, match="re-centring without a prior"):
            session.edit(prior="none", recenter_shifts=True)
        with pytest.warns(UserWarning, match="lies outside the box"):
            session.edit(fulcrum="-9, 0, 0 A")


def test_too_few_particles_to_learn_from_are_told_of() -> None:
    told = "needs at least 210 particles in each half set, and one has"
    for n, few in ((2 * MIN_IMAGES, False), (2 * MIN_IMAGES - 2, True)):
        job = make_job(n)
        found = parameter_warnings(job.mask, RefineSpec(prior="motion"), half=job.particles.half)
        assert any(f"prior=motion {told} {n // 2}" in one for one in found) == few
        assert not any(told in one for one in parameter_warnings(job.mask, RefineSpec(), half=job.particles.half))
    told = f"fulcrum=estimate {told} 5: the motion will not be estimated"
    with Session(make_job(), engine=FakeEngine()) as session, pytest.warns(UserWarning, match=told):
        session.edit(fulcrum="estimate")


def halves_in(path: Path) -> np.ndarray:
    return io.read_particles(path).half


def test_half_sets_are_split_anew_and_exported(files: Files, tmp_path: Path, capsys: Out) -> None:
    round_mask(files)
    run, star, cs = tmp_path / "run.zarr", tmp_path / "out.star", tmp_path / "out.cs"
    argv = ["refine", str(files.star), "--mask", str(files.mask), "--out", str(run)]
    status, lines = said(capsys, [*argv, "--resplit", "--seed", "5", "--iterations", "1"])
    assert (status, lines) == (0, [])
    assert main(["export", str(run), "--star", str(star), "--cs", str(cs)]) == 0
    found = halves_in(star)
    assert np.bincount(found).tolist() == [0, 5, 5]
    assert not np.array_equal(found, halves_in(files.star))
    assert np.array_equal(found, halves_in(cs))
    assert said(capsys, [*argv, "--resume", "--iterations", "2"])[0] == 0
    assert said(capsys, [*argv, "--resume", "--resplit"])[0] == 0


def test_particles_without_half_sets_are_told_how_to_get_them(files: Files, tmp_path: Path, capsys: Out) -> None:
    round_mask(files)
    files.star.write_text(files.star.read_text().replace("_rlnRandomSubset", "_rlnSomething"))
    argv = ["refine", str(files.star), "--mask", str(files.mask), "--out", str(tmp_path / "run.zarr")]
    status, lines = said(capsys, argv)
    assert status == 2
    assert lines[0].endswith("run a 3D auto-refinement first, or split them here (--resplit)")
    assert said(capsys, [*argv, "--resplit"]) == (0, [])


def test_half_sets_of_cryosparc_are_split_anew(files: Files, tmp_path: Path, capsys: Out) -> None:
    round_mask(files)
    cs, out = files.folder / "p.cs", tmp_path / "out.cs"
    particles = io.read_particles(files.star)
    io.write_particles(cs, particles, particles.poses)
    run = tmp_path / "run.zarr"
    argv = ["refine", str(cs), "--mask", str(files.mask), "--out", str(run), "--resplit", "--iterations", "1"]
    assert said(capsys, [*argv, "--seed", "5"])[0] == 0
    assert main(["export", str(run), "--cs", str(out)]) == 0
    assert np.bincount(halves_in(out)).tolist() == [0, 5, 5]
    assert not np.array_equal(halves_in(out), particles.half)


def test_half_maps_of_the_old_half_sets_are_refused(files: Files, tmp_path: Path, capsys: Out) -> None:
    status, lines = said(capsys, files.refine(tmp_path / "run.zarr", "--resplit"))
    assert status == 2
    assert "half1.mrc: a half map of the old half sets holds images of both new ones" in lines[0]
    assert "leave the half maps out" in lines[0]
    with pytest.raises(InputError, match="leave the half maps out"):
        Session.load(files.star, files.mask, files.halves, resplit=True)


def test_a_run_cannot_be_split_anew_half_way(files: Files, tmp_path: Path, capsys: Out) -> None:
    round_mask(files)
    argv = files.refine(tmp_path / "run.zarr", "--iterations", "1")
    assert said(capsys, argv)[0] == 0
    status, lines = said(capsys, [*argv, "--resume", "--resplit", "--json"])
    assert status == 2
    assert "--resplit: the run" in lines[0]
    assert "keeps the half sets of its file: use another --out" in lines[0]


def test_uneven_half_sets_are_told(files: Files, tmp_path: Path, capsys: Out) -> None:
    round_mask(files)
    particles = io.read_particles(files.star)
    half = np.array([1, 1, 1, 1, 1, 1, 1, 1, 2, 2], np.int8)
    uneven = files.folder / "uneven.star"
    io.write_particles(uneven, with_half_sets(particles, half), particles.poses)
    status, lines = said(capsys, replace(files, star=uneven).refine(tmp_path / "run.zarr", "--json"))
    assert status == 0
    assert "half sets of 8 and 2 particles" in lines[0]
    assert "split them again (--resplit)" in lines[0]
