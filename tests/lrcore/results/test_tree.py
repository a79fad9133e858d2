"""Results by the written schema: units, definitions, and steps back bit for bit."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lrcore.errors import InputError
from lrcore.imaging.poses import pose_differences
from lrcore.records import Step
from lrcore.refinement.geometry import fulcrum_A, step_fulcrum_A
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.schema import SCHEMA, STAGE_VARIABLES, validate
from lrcore.results.tree import covariance_in_degrees, to_step, to_tree
from tests.fakes import BOX, PIXEL, make_job, make_step, same_bits, with_flipped_bit


@pytest.fixture(scope="module")
def job() -> Job:
    return make_job()


@pytest.fixture(scope="module")
def steps(job: Job) -> list[Step]:
    first = make_step(job)
    second = make_step(job, first)
    return [first, second, make_step(job, second)]


@pytest.fixture
def tree(job: Job, steps: list[Step]) -> xr.DataTree:
    return to_tree(job, steps)


def test_it_keeps_to_its_schema(tree: xr.DataTree) -> None:
    validate(tree)
    assert tree["fsc"]["masked"].dims == ("iteration", "shell")
    assert list(tree["particles"]["iteration"].values) == [0, 1, 2]


def test_every_variable_has_a_unit_and_a_name(tree: xr.DataTree) -> None:
    units = {"1", "angstrom", "1/angstrom", "degree", "s", "1/s", "megabyte"}
    for node in tree.subtree:
        for name, variable in node.to_dataset().variables.items():
            assert variable.attrs["units"] in units, name
            assert variable.attrs["long_name"], name


def test_a_step_comes_back_bit_for_bit(job: Job, steps: list[Step]) -> None:
    for step in steps:
        back = to_step(to_tree(job, [step]))
        assert same_bits(back, step)
        assert not same_bits(back, with_flipped_bit(step))


def test_a_prior_of_motions_comes_back_where_there_was_one() -> None:
    job = make_job(prior="motion")
    first = make_step(job)
    last = make_step(job, first)
    assert last.search.covariance
    earlier = replace(last, search=replace(last.search, covariance=None))
    for steps in ([last], [first, earlier, last]):
        tree = to_tree(job, steps)
        validate(tree)
        assert same_bits(to_step(tree), steps[-1])
    assert np.isnan(tree["state"]["prior_covariance"][1]).all(), "the SDs were the prior"


def test_a_step_without_history_and_with_foreign_paths(job: Job, steps: list[Step]) -> None:
    maps = replace(steps[0].half_maps, first=replace(steps[0].half_maps.first, path=Path("a b/half 1.mrc")))
    step = replace(steps[0], half_maps=maps, history=())
    assert same_bits(to_step(to_tree(job, [step])), step)


def test_changes_from_the_input_and_since_the_last_iteration(job: Job, steps: list[Step], tree: xr.DataTree) -> None:
    particles, fulcrum = tree["particles"], step_fulcrum_A(job, steps[2])
    poses = [step.expectation.poses for step in steps]
    angle, shift = pose_differences(job.particles.poses, poses[2], fulcrum)
    assert np.array_equal(particles["angle_change"][2], angle)
    assert np.array_equal(particles["shift_change"][2], shift)
    angle, shift = pose_differences(poses[1], poses[2], fulcrum)
    assert np.array_equal(particles["angle_change_last"][2], angle)
    assert np.array_equal(particles["shift_change_last"][2], shift)
    assert np.all(particles["angle_change_last"][0] == 0)


def test_changes_of_a_later_part_need_the_step_before(job: Job, steps: list[Step], tree: xr.DataTree) -> None:
    part = to_tree(job, steps[2:], before=steps[1])
    assert part["particles"].to_dataset().equals(tree["particles"].to_dataset().isel(iteration=[2]))


def test_the_fulcrum_is_the_masks_centre_of_mass_or_what_the_spec_says(job: Job) -> None:
    weight = job.mask.data / job.mask.data.sum()
    axes = (np.arange(BOX) - BOX // 2) * PIXEL
    expected = [(weight * axes.reshape([-1 if i == a else 1 for i in range(3)])).sum() for a in (2, 1, 0)]
    assert np.allclose(fulcrum_A(job), expected, atol=1e-5)
    assert fulcrum_A(replace(job, spec=RefineSpec(fulcrum="0, 6, 12 px"))) == (-6 * PIXEL, 0.0, 6 * PIXEL)


def test_people_see_degrees(steps: list[Step], tree: xr.DataTree) -> None:
    covariance = steps[2].expectation.covariance
    seen = covariance_in_degrees(tree).isel(iteration=2).values
    assert np.allclose(seen[:, 0, 1], covariance[:, 0, 1] * (180 / np.pi) ** 2)
    assert np.allclose(seen[:, 0, 3], covariance[:, 0, 3] * 180 / np.pi)
    assert np.array_equal(seen[:, 3, 4], covariance[:, 3, 4])
    assert np.allclose(tree["particles"]["rotation_sd"][2, :, 1] ** 2, seen[:, 1, 1])
    assert np.allclose(tree["particles"]["shift_sd"][2, :, 0] ** 2, seen[:, 3, 3])


def test_coordinates_in_angstrom_about_the_box_centre(tree: xr.DataTree) -> None:
    x = tree["volumes"]["x"].values
    assert x[BOX // 2] == 0
    assert np.allclose(np.diff(x), PIXEL)
    fsc = tree["fsc"]
    assert np.allclose(fsc["resolution"][1:] * fsc["frequency"][1:], 1)


def test_a_curve_that_a_step_lacks_is_nan_there(steps: list[Step], tree: xr.DataTree) -> None:
    assert np.isnan(tree["fsc"]["randomised"][0]).all()
    assert np.array_equal(tree["fsc"]["randomised"][1], steps[1].fsc["randomised"].value)
    assert np.array_equal(tree["fsc"]["unmasked"][0], steps[0].fsc["unmasked"].value)


def test_attributes_say_how_it_was_made(job: Job, steps: list[Step]) -> None:
    specs = [RefineSpec(), RefineSpec(seed=5, rotation_prior_sd_deg=2.5)]
    attributes = to_tree(job, steps[:2], specs=specs).attrs
    assert RefineSpec.model_validate_json(attributes["spec"]) == specs[1]
    assert [RefineSpec(**one) for one in json.loads(attributes["specs"])] == specs
    assert attributes["seed"] == 5
    assert json.loads(attributes["versions"])["numpy"] == np.__version__
    assert set(json.loads(attributes["inputs"])) == {"particles", "mask", "images"}


def test_flags_are_described(tree: xr.DataTree) -> None:
    flags = tree["particles"]["flags"]
    meanings = dict(zip(flags.attrs["flag_meanings"].split(), flags.attrs["flag_masks"], strict=True))
    assert meanings["at_shift_extent"] == 2


def test_it_goes_through_netcdf(tree: xr.DataTree, tmp_path: Path, steps: list[Step]) -> None:
    pytest.importorskip("h5py")
    tree.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "run.nc", engine="h5netcdf") as back:
        back.load()
        assert same_bits(to_step(back).expectation.poses, steps[2].expectation.poses)


def _without(tree: xr.DataTree, group: str, name: str) -> xr.DataTree:
    groups = {node.path: node.to_dataset() for node in tree.subtree}
    return xr.DataTree.from_dict({**groups, "/" + group: groups["/" + group].drop_vars(name)})


def test_validation_names_what_is_missing_or_odd(tree: xr.DataTree) -> None:
    with pytest.raises(InputError, match="/particles/ess is missing"):
        validate(_without(tree, "particles", "ess"))
    with pytest.raises(InputError, match="/fsc/resolution is missing"):
        validate(_without(tree, "fsc", "resolution"))
    validate(_without(tree, "fsc", "masked"))

    odd = tree.copy(deep=True)
    odd["particles"]["origin"].attrs["units"] = "pixel"
    with pytest.raises(InputError, match=r"units of /particles/origin are pixel, not angstrom"):
        validate(odd)
    odd = tree.copy(deep=True)
    odd["particles/surprise"] = odd["particles"]["ess"]
    with pytest.raises(InputError, match="/particles/surprise is not in the schema"):
        validate(odd)
    odd = tree.copy(deep=True)
    odd["history"]["memory"].attrs.pop("long_name")
    with pytest.raises(InputError, match="/history/memory has no long_name"):
        validate(odd)
    odd = tree.copy(deep=True)
    odd["particles/flags"] = odd["particles"]["flags"].astype(np.int64)
    with pytest.raises(InputError, match="type of /particles/flags"):
        validate(odd)
    odd = tree.copy(deep=True)
    del odd.attrs["spec"]
    with pytest.raises(InputError, match="'spec' of / is missing"):
        validate(odd)
    odd = tree.copy(deep=True)
    del odd["state"]
    with pytest.raises(InputError, match="/state is missing"):
        validate(odd)


def test_the_document_is_the_schema(root: Path) -> None:
    text = (root / "docs" / "results.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\S.*?) \| (\w+) \| (\S+) \| (.*) \|$", text, re.MULTILINE)
    documented = {tuple(row[:4]) for row in rows}
    stages = {prefix + "STAGE": variable for prefix, variable in STAGE_VARIABLES.items()}
    schema = {
        (name, ", ".join(v.dims), np.dtype(v.dtype).name, v.unit)
        for variables in (*SCHEMA.values(), stages)
        for name, v in variables.items()
    }
    assert documented == schema
    # A row begins as the variable's own description does, and may say more.
    meanings = {(name, dims): meaning for name, dims, _, _, meaning in rows}
    for name, v in ((name, v) for variables in (*SCHEMA.values(), stages) for name, v in variables.items()):
        assert meanings[name, ", ".join(v.dims)].startswith(re.split("[;:]", v.long_name)[0]), name
