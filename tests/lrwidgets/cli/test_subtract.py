"""lrwidgets subtract: files and runs, there and back, beside recenter, and one line for what cannot be."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.io.image_stacks import StackReader
from lrcore.io.mrc_maps import read_header
from lrcore.io.star_table import read_source
from lrcore.records import Particles, Volume
from lrcore.results.zarr_store import Store
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from lrwidgets.cli import subtract
from lrwidgets.cli._main import main
from tests.lrwidgets.cli.commands import run_json, run_refused

Out = pytest.CaptureFixture[str]
MOVED = {"rlnImageName", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    folder = tmp_path_factory.mktemp("made")
    return simulate_flexible_particle(folder, n=60, box=40, pixel_size_A=4.6, snr=1.0, groups=2)


def told(capsys: Out, *argv: object) -> dict[str, object]:
    """The last JSON line that a command prints."""
    return run_json(capsys, *argv)[-1]


def refused(capsys: Out, *argv: object) -> str:
    return run_refused(capsys, "subtract", *argv)[-1]


def inputs(made: FlexibleParticle) -> list[object]:
    return [made.star, "--mask", made.map("mask_b"), "--half-maps", made.map("gt_full"), made.map("gt_full")]


def images_of(particles: Particles) -> np.ndarray:
    with StackReader(particles.images, particles.box) as reader:
        return reader.read(np.arange(len(particles)))


def test_a_star_file_goes_there_and_back(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    record = told(capsys, "subtract", *inputs(made), "--out", tmp_path / "there")
    assert record["particles"] == 60
    assert 0.2 < record["kept"] < 0.6
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["particles.mrcs", "particles.star"]
    there, before = io.read_particles(tmp_path / "there" / "particles.star"), io.read_particles(made.star)
    assert there.subtracted
    assert not before.subtracted
    assert images_of(there).var() < 0.95 * images_of(before).var()
    first, last = read_source(made.star), there.source
    for name in set(first.table.columns) - MOVED:
        assert first.table[name].tolist() == last.table[name].tolist(), name
    assert last.table["rlnImageOriginalName"].tolist() == last.table["lrwSubtractedImage"].tolist()
    assert first.blocks["optics"].equals(last.blocks["optics"])
    told(capsys, "subtract", tmp_path / "there" / "particles.star", "--back", "--out", tmp_path / "back" / "p.star")
    back = io.read_particles(tmp_path / "back" / "p.star")
    assert list(back.source.table.columns) == list(first.table.columns)
    assert back.images.stacks[0].samefile(before.images.stacks[0])
    assert np.array_equal(back.images.index, before.images.index)
    assert np.abs(back.poses.origin_A - before.poses.origin_A).max() < 5e-6


def test_a_refinement_of_it_comes_back_with_its_poses(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    there, run = tmp_path / "there" / "particles.star", tmp_path / "run.zarr"
    told(capsys, "subtract", *inputs(made), "--out", there)
    argv = ["refine", there, *inputs(made)[1:], "--iterations", "1", "--out", run]
    assert main([*map(str, argv)]) == 0
    assert (
        "the density outside the mask is already subtracted from these images: subtract_outside does nothing"
        in capsys.readouterr().err
    )
    found = Store.open(run, write=False)
    poses = found.load(found.node().id).expectation.poses
    told(capsys, "subtract", run, "--back", "--out", tmp_path / "back")
    back = io.read_particles(tmp_path / "back" / "particles.star")
    assert not back.subtracted
    assert np.abs(back.poses.origin_A - poses.origin_A).max() < 5e-6
    assert np.array_equal(images_of(back), images_of(io.read_particles(made.star)))


def test_cryosparc_files_go_there_and_back(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    plain = io.read_particles(made.star)
    inverted = replace(plain, images=replace(plain.images, sign=-plain.images.sign), source=None)
    flipped = [str(tmp_path / f"flipped{half}.mrc") for half in (1, 2)]
    truth = io.read_volume(made.map("gt_full"))
    for path in flipped:
        io.write_volume(path, replace(truth, data=-truth.data))
    io.write_particles(tmp_path / "p.cs", inverted, plain.poses)
    argv = [tmp_path / "p.csg", "--mask", made.map("mask_b"), "--half-maps", *flipped]
    told(capsys, "subtract", *argv, "--out", tmp_path / "there")
    before, there = io.read_particles(tmp_path / "p.csg"), io.read_particles(tmp_path / "there" / "particles.csg")
    assert there.subtracted
    assert set(there.images.sign.tolist()) == {-1.0}
    assert np.array_equal(there.uid, before.uid)
    told(capsys, "subtract", *inputs(made), "--out", tmp_path / "star")
    star = io.read_particles(tmp_path / "star" / "particles.star")
    assert np.allclose(images_of(there), -images_of(star), atol=1e-3)
    for name in before.source.fields - {"blob/path", "blob/idx", "alignments3D/pose", "alignments3D/shift"}:
        assert np.array_equal(there.source.table[name], before.source.table[name]), name
    told(capsys, "subtract", tmp_path / "there" / "particles.cs", "--back", "--out", tmp_path / "back.cs")
    back = io.read_particles(tmp_path / "back.csg")
    assert not any(name.startswith("lrw/") for name in back.source.fields)
    assert np.array_equal(images_of(back), images_of(before))


def test_a_run_writes_what_it_has_subtracted(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    run = tmp_path / "run.zarr"
    assert main(["refine", *map(str, inputs(made)), "--iterations", "1", "--out", str(run)]) == 0
    told(capsys, "subtract", run, "--out", tmp_path / "run")
    told(capsys, "subtract", *inputs(made), "--out", tmp_path / "files")
    of_run, of_files = (io.read_particles(tmp_path / name / "particles.star") for name in ("run", "files"))
    assert np.allclose(images_of(of_run), images_of(of_files), atol=1e-5)
    store = Store.open(run, write=False)
    assert np.abs(of_run.poses.origin_A - store.load(store.node().id).expectation.poses.origin_A).max() < 5e-6
    assert "leave out --mask and --half-maps" in refused(
        capsys, run, "--mask", made.map("mask_b"), "--out", tmp_path / "x"
    )


def test_recentred_before_or_after(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    """What came last is undone first; the other order is refused."""
    mask = made.map("mask_b")
    maps = ["--half-maps", made.map("gt_full"), made.map("gt_full")]
    told(capsys, "recenter", made.star, "--mask", mask, *maps, "--out", tmp_path / "f")
    halves = ["--half-maps", tmp_path / "f" / "half1.mrc", tmp_path / "f" / "half2.mrc"]
    framed = [tmp_path / "f" / "particles.star", "--mask", tmp_path / "f" / "mask.mrc", *halves]
    told(capsys, "subtract", *framed, "--out", tmp_path / "fs")
    assert main(["recenter", str(tmp_path / "fs" / "particles.star"), "--back", "--out", str(tmp_path / "x")]) == 2
    assert "undo the subtraction first (lrwidgets subtract --back)" in capsys.readouterr().err
    told(capsys, "subtract", tmp_path / "fs" / "particles.star", "--back", "--out", tmp_path / "fs-")
    told(capsys, "recenter", tmp_path / "fs-" / "particles.star", "--back", "--out", tmp_path / "fs--")
    told(capsys, "subtract", *inputs(made), "--out", tmp_path / "s")
    told(capsys, "recenter", tmp_path / "s" / "particles.star", "--mask", mask, "--out", tmp_path / "sf")
    message = refused(capsys, tmp_path / "sf" / "particles.star", "--back", "--out", tmp_path / "x")
    assert "undo that first (lrwidgets recenter --back)" in message
    told(capsys, "recenter", tmp_path / "sf" / "particles.star", "--back", "--out", tmp_path / "sf-")
    told(capsys, "subtract", tmp_path / "sf-" / "particles.star", "--back", "--out", tmp_path / "sf--")
    before = io.read_particles(made.star)
    for name in ("fs--", "sf--"):
        back = io.read_particles(tmp_path / name / "particles.star")
        assert np.array_equal(images_of(back), images_of(before)), name
        assert np.abs(back.poses.origin_A - before.poses.origin_A).max() < 1e-5, name


def test_float16_and_relions_own_original_names_are_kept(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    import mrcfile

    data = images_of(io.read_particles(made.star)).astype(np.float16)
    with mrcfile.new(tmp_path / "s.mrcs") as stack:
        stack.set_data(data)
        stack.voxel_size = 4.6
    plain = io.read_particles(made.star)
    stacks = replace(plain, images=replace(plain.images, stacks=(tmp_path / "s.mrcs",)))
    older = np.full(len(plain), "x@older.mrcs")
    io.write_particles(tmp_path / "p.star", stacks, plain.poses, {"rlnImageOriginalName": older})
    told(capsys, "subtract", tmp_path / "p.star", *inputs(made)[1:], "--out", tmp_path / "there")
    assert read_header(tmp_path / "there" / "particles.mrcs").mode == 12
    there = io.read_particles(tmp_path / "there" / "particles.star")
    assert set(there.source.table["rlnImageOriginalName"]) == {"x@older.mrcs"}
    told(capsys, "subtract", there.path, "--back", "--out", tmp_path / "back")
    back = io.read_particles(tmp_path / "back" / "particles.star")
    assert set(back.source.table["rlnImageOriginalName"]) == {"x@older.mrcs"}


def test_what_cannot_be_is_refused(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    out = tmp_path / "out"
    assert "--mask is missing" in refused(capsys, made.star, "--out", out)
    assert "only subtracted particles can be restored" in refused(capsys, made.star, "--back", "--out", out)
    message = refused(capsys, made.star, "--back", "--mask", made.map("mask_b"), "--out", out)
    assert "leave out --mask and --half-maps" in message
    io.write_volume(tmp_path / "small.mrc", Volume(np.full((9, 9, 9), 0.5, np.float32), 4.6))
    message = refused(capsys, made.star, "--mask", tmp_path / "small.mrc", "--out", out)
    assert "small.mrc: the mask is 9³ but the particles' box is 40" in message
    io.write_volume(tmp_path / "all.mrc", Volume(np.full((40, 40, 40), 1.0, np.float32), 4.6))
    message = refused(capsys, made.star, "--mask", tmp_path / "all.mrc", *inputs(made)[3:], "--out", out)
    assert "all.mrc: there is nothing to subtract outside of it" in message
    assert "one half map is not enough" in refused(capsys, *inputs(made)[:-1], "--out", out)
    assert not out.exists() or list(out.iterdir()) == []
    told(capsys, "subtract", *inputs(made), "--out", out)
    assert "particles.star: exists already" in refused(capsys, *inputs(made), "--out", out)
    message = refused(capsys, out / "particles.star", *inputs(made)[1:], "--out", tmp_path / "again")
    assert "is subtracted already: restore it first" in message
    assert "restore the original images" in _noted(capsys, out / "particles.star", made, tmp_path / "run.zarr")


def _noted(capsys: Out, star: Path, made: FlexibleParticle, run: Path) -> str:
    argv = ["refine", star, *inputs(made)[1:], "--set", "mask_mode=dynamic", "--iterations", "1", "--out", run]
    assert main([*map(str, argv)]) == 0
    return capsys.readouterr().err


def test_an_interruption_leaves_nothing(
    made: FlexibleParticle, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = subtract.subtracted_images

    def cut_short(*arguments: object) -> Iterator[np.ndarray]:
        yield next(whole(*arguments))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(subtract, "subtracted_images", cut_short)
    there = set(tmp_path.iterdir())
    assert main(["subtract", *map(str, inputs(made)), "--out", str(tmp_path / "new" / "out")]) == 130
    assert set(tmp_path.iterdir()) == there
    (tmp_path / "mine").mkdir()
    assert main(["subtract", *map(str, inputs(made)), "--out", str(tmp_path / "mine")]) == 130
    assert list((tmp_path / "mine").iterdir()) == []
