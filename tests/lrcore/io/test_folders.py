"""Job folders of CryoSPARC and RELION as input: what is found is said, and what is ambiguous is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.errors import InputError
from lrcore.io import job_folders
from lrcore.io.cs_table import with_columns
from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main
from lrwidgets.gui import data_model
from lrwidgets.session.session import Session

JOB_STAR = """
data_job

_rlnJobTypeLabel             relion.refine3d

data_joboptions_values

loop_
_rlnJobOptionVariable #1
_rlnJobOptionValue #2
do_ctf_correction        Yes
fn_mask                  {mask}
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small moving particle with half maps, for both kinds of folder."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_flexible_particle(folder, n=60, box=40, pixel_size_A=4.6, snr=0.3)
    for half in "12":
        argv = ["reconstruct", str(folder / "particles.star"), "--half", half, "--out", str(folder / f"half{half}.mrc")]
        assert main(argv) == 0
    return folder


@pytest.fixture
def relion_job(simulated: Path, tmp_path: Path) -> Path:
    """A project with Extract, MaskCreate and a Refine3D job that has ended."""
    job = tmp_path / "Refine3D" / "job012"
    for folder in (job, tmp_path / "MaskCreate" / "job011"):
        folder.mkdir(parents=True)
    shutil.copy(simulated / "particles.mrcs", tmp_path)
    shutil.copy(simulated / "mask_b.mrc", tmp_path / "MaskCreate" / "job011" / "mask.mrc")
    for name in ("run_it004_data.star", "run_it010_data.star", "run_data.star"):
        shutil.copy(simulated / "particles.star", job / name)
    for half in "12":
        shutil.copy(simulated / f"half{half}.mrc", job / f"run_half{half}_class001_unfil.mrc")
    (job / "job.star").write_text(JOB_STAR.format(mask="MaskCreate/job011/mask.mrc"))
    return job


@pytest.fixture
def cryosparc_job(simulated: Path, tmp_path: Path) -> Path:
    """A job folder with two iterations, a passthrough in another order, and maps; groups as a version has them."""
    job = tmp_path / "J42"
    job.mkdir()
    particles = io.read_particles(simulated / "particles.star")
    whole = tmp_path / "whole.cs"
    io.write_particles(whole, particles, particles.poses)
    table = np.load(whole)
    blob = [name for name in table.dtype.names if name.startswith("blob/")]
    mixed = table[["uid", *blob]][np.random.default_rng(0).permutation(len(table))]
    np.save((job / "J42_passthrough_particles.cs").open("wb"), with_columns(mixed, {}))
    main_table = with_columns(table[[name for name in table.dtype.names if name not in blob]], {})
    for number, turn in (("004", 0.5), ("010", 0.0)):
        changed = with_columns(main_table, {"alignments3D/pose": main_table["alignments3D/pose"] + np.float32(turn)})
        np.save((job / f"J42_{number}_particles.cs").open("wb"), changed)
        for slot, name in (("map_half_A", "half1"), ("map_half_B", "half2"), ("mask_refine", "mask_b")):
            shutil.copy(simulated / f"{name}.mrc", job / f"J42_{number}_volume_{slot}.mrc")
    whole.unlink()
    whole.with_suffix(".csg").unlink()
    return job


def group(job: Path, name: str, slots: dict[str, str]) -> None:
    """A .csg with the metafile of each slot."""
    lines = ["results:"]
    for slot, metafile in slots.items():
        lines += [f"  {slot}:", f"    metafile: '>{metafile}'", "    num_items: 1", f"    type: x.{slot}"]
    (job / name).write_text("\n".join(lines) + "\n")


def test_a_relion_job_is_refined_by_its_folder(relion_job: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run.zarr"
    assert main(["refine", str(relion_job), "--iterations", "1", "--backend", "cpu", "--out", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    halves = [relion_job / f"run_half{half}_class001_unfil.mrc" for half in (1, 2)]
    assert lines[:3] == [
        f"particles: {relion_job / 'run_data.star'}",
        f"half maps: {halves[0]} and {halves[1]}",
        f"mask: {tmp_path / 'MaskCreate' / 'job011' / 'mask.mrc'}",
    ]
    with Session.open(run, write=False) as session:
        assert session.source.half_maps == tuple(map(str, halves))
        assert Path(session.source.mask).parent.name == "job011"
    assert main(["refine", str(relion_job), "--out", str(run), "--resume", "--iterations", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"particles: {relion_job / 'run_data.star'}"


def test_a_cryosparc_job_is_refined_by_its_folder(cryosparc_job: Path, tmp_path: Path, capsys) -> None:
    argv = ["refine", str(cryosparc_job), "--iterations", "1", "--backend", "cpu", "--json"]
    assert main([*argv, "--out", str(tmp_path / "run.zarr")]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[0])
    assert found["event"] == "found"
    assert [Path(found[name]).name for name in ("particles", "mask")] == [
        "J42_010_particles.cs",
        "J42_010_volume_mask_refine.mrc",
    ]
    assert [Path(name).name for name in found["half_maps"]] == [f"J42_010_volume_map_half_{side}.mrc" for side in "AB"]


def test_every_command_on_particles_takes_a_folder(relion_job: Path, tmp_path: Path, capsys) -> None:
    job, mask = str(relion_job), str(tmp_path / "MaskCreate" / "job011" / "mask.mrc")
    whole = tmp_path / "whole.mrc"
    assert main(["reconstruct", job, "--out", str(whole)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"particles: {relion_job / 'run_data.star'}"
    assert io.read_volume(whole).box == 40
    assert main(["recenter", job, "--box", "32", "--out", str(tmp_path / "part")]) == 0
    assert {"half1.mrc", "half2.mrc", "mask.mrc", "particles.star"} <= {p.name for p in (tmp_path / "part").iterdir()}
    assert main(["subtract", job, "--out", str(tmp_path / "kept")]) == 2
    assert "--mask" in capsys.readouterr().err
    assert main(["subtract", job, "--mask", mask, "--out", str(tmp_path / "kept")]) == 0
    assert f"half maps: {relion_job / 'run_half1_class001_unfil.mrc'} and" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    for command in ("reconstruct", "recenter", "subtract"):
        assert main([command, str(tmp_path / "empty"), "--out", str(tmp_path / "none")]) == 2
        assert "is not a job folder" in capsys.readouterr().err


def test_a_session_is_loaded_from_a_folder(relion_job: Path, cryosparc_job: Path, tmp_path: Path) -> None:
    with Session.load(relion_job) as session:
        assert session.job.half_maps is not None
        assert Path(session.source.mask).parent.name == "job011"
    with Session.load(cryosparc_job, resplit=True) as session:
        assert session.job.half_maps is None
        assert Path(session.source.mask).name == "J42_010_volume_mask_refine.mrc"
    other = tmp_path / "MaskCreate" / "job011" / "mask.mrc"
    with Session.load(cryosparc_job, other) as session:
        assert Path(session.source.mask) == other
    nothing = dict.fromkeys([name for name, *_ in data_model.FILES], "")
    with data_model.load_session({**nothing, "particles": str(relion_job)}) as session:
        assert session.job.half_maps is not None
    with pytest.raises(InputError, match="no mask and no half maps given"):
        data_model.load_session({**nothing, "particles": str(relion_job / "run_data.star")})
    with pytest.raises(InputError, match="comes without a mask: give one"):
        Session.load(relion_job / "run_data.star")


def test_info_tells_of_a_folder_and_of_its_particles(relion_job: Path, cryosparc_job: Path, capsys) -> None:
    for job, kind in ((relion_job, "RELION 3.1"), (cryosparc_job, "CryoSPARC")):
        assert main(["info", str(job)]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"particles: {job}")
        assert kind in out
        assert "images_in_both_half_sets" in out


def test_a_group_of_the_job_goes_before_its_tables(cryosparc_job: Path) -> None:
    slots = dict.fromkeys(("alignments3D", "ctf"), "J42_010_particles.cs") | {"blob": "J42_passthrough_particles.cs"}
    group(cryosparc_job, "J42_particles.csg", slots)
    assert job_folders.find_job_files(cryosparc_job).particles.name == "J42_particles.csg"
    group(cryosparc_job, "J42_particles.csg", slots | {"blob": "J42_gone.cs"})
    assert job_folders.find_job_files(cryosparc_job).particles.name == "J42_010_particles.cs"


def test_a_volume_group_names_the_half_maps(test_data: Callable[[str], Path]) -> None:
    found = job_folders.find_job_files(test_data("two_body") / "J42")
    assert found.particles.name == "P1_J42_particles.csg"
    assert [path.name for path in found.half_maps] == ["consensus_half1.mrc", "consensus_half2.mrc"]
    assert found.mask is None


def test_real_folders_of_jobs(test_data: Callable[[str], Path]) -> None:
    """One that lacks its passthrough and its maps; one that has not ended."""
    with pytest.warns(UserWarning, match=r"skipped: .*P9_J209_particles.csg: metafile does not exist"):
        found = job_folders.find_job_files(test_data("formats") / "cryosparc_v2_t20s")
    assert found.particles.name == "cryosparc_P9_J209_000_particles.cs"
    assert (found.half_maps, found.mask) == ((), None)
    found = job_folders.find_job_files(test_data("formats") / "relion_refine3d_betagal")
    assert (found.particles.name, found.half_maps, found.mask) == ("run_it016_data.star", (), None)


def test_a_job_that_has_not_ended_gives_its_last_iteration_and_no_half_maps(relion_job: Path) -> None:
    (relion_job / "run_data.star").unlink()
    found = job_folders.find_job_files(relion_job)
    assert found.particles.name == "run_it010_data.star"
    assert found.half_maps == ()
    assert "none in" in found.notes["half_maps"]


def test_without_a_mask_of_its_own_the_only_one_of_the_project_is_taken(relion_job: Path) -> None:
    (relion_job / "job.star").write_text(JOB_STAR.format(mask='""'))
    mask = relion_job.parents[1] / "MaskCreate" / "job011" / "mask.mrc"
    assert job_folders.find_job_files(relion_job).mask == mask
    other = mask.parent.with_name("job015")
    shutil.copytree(mask.parent, other)
    with pytest.raises(InputError, match=r"several MaskCreate masks \(.*job011/mask.mrc, .*job015/mask.mrc\)"):
        job_folders.find_job_files(relion_job)
    assert job_folders.find_job_files(relion_job, ["half_maps"]).mask is None


def test_what_is_ambiguous_or_missing_is_refused_by_name(
    relion_job: Path, cryosparc_job: Path, tmp_path: Path, capsys
) -> None:
    def refused(folder: Path) -> str:
        capsys.readouterr()
        assert main(["refine", str(folder), "--out", str(tmp_path / "no.zarr")]) == 2
        return capsys.readouterr().err

    shutil.copy(cryosparc_job / "J42_010_particles.cs", cryosparc_job / "J42_class_2_particles.cs")
    assert "particle files with poses (J42_010_particles.cs, J42_class_2_particles.cs)" in refused(cryosparc_job)
    (cryosparc_job / "J42_class_2_particles.cs").unlink()
    shutil.copy(cryosparc_job / "J42_010_volume_map_half_A.mrc", cryosparc_job / "other_map_half_A.mrc")
    assert "half maps (J42_010_volume_map_half_A.mrc, other_map_half_A.mrc)" in refused(cryosparc_job)
    shutil.copy(relion_job / "run_data.star", relion_job / "run_ct7_data.star")
    assert "final particle files (run_ct7_data.star, run_data.star)" in refused(relion_job)
    (relion_job / "run_ct7_data.star").unlink()
    (relion_job.parents[1] / "MaskCreate" / "job011" / "mask.mrc").unlink()
    assert "job.star: mask MaskCreate/job011/mask.mrc does not exist" in refused(relion_job)
    shutil.copy(cryosparc_job / "J42_010_particles.cs", relion_job)
    assert "contains both J42_010_particles.cs and run_data.star" in refused(relion_job)
    assert "is not a job folder" in refused(tmp_path / "MaskCreate")
