"""What would harm a refinement is told when files are read, by every command that takes them, and by info."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrcore import io
from lrcore.masks import soft_sphere
from lrcore.records import Volume
from lrcore.simulation.data_set import FlexibleParticle, simulate_flexible_particle
from lrwidgets.cli._main import main

Out = pytest.CaptureFixture[str]
N, APIX = 40, 4.6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FlexibleParticle:
    """60 particles with half maps made from them."""
    data = simulate_flexible_particle(tmp_path_factory.mktemp("made"), n=60, box=N, pixel_size_A=APIX, snr=1.0)
    for half in (1, 2):
        main(["reconstruct", str(data.star), "--half", str(half), "--out", str(data.star.parent / f"half{half}.mrc")])
    return data


def halves(made: FlexibleParticle) -> list[Path]:
    return [made.star.parent / f"half{half}.mrc" for half in (1, 2)]


def mask(folder: Path, data: np.ndarray, apix: float = APIX) -> Path:
    io.write_volume(folder / "m.mrc", Volume(data.astype(np.float32), apix))
    return folder / "m.mrc"


def run(capsys: Out, *argv: object) -> tuple[int, str]:
    """Status and errors of a command."""
    capsys.readouterr()
    status = main([*map(str, argv)])
    return status, capsys.readouterr().err


def table(made: FlexibleParticle, folder: Path, **columns: Callable[[int], str]) -> Path:
    """The particles' table with columns replaced or added, beside its images."""
    particles = io.read_particles(made.star)
    source = particles.source
    rows = source.table.copy()
    for name, value in columns.items():
        rows[name] = [value(number) for number in range(len(rows))]
    names = [f"_{name} #{number}" for number, name in enumerate(rows.columns, 1)]
    optics = source.blocks[source.optics]
    heads = [f"_{name} #{number}" for number, name in enumerate(optics.columns, 1)]
    text = ["data_optics", "", "loop_", *heads, *map(" ".join, optics.astype(str).values), ""]
    text += ["data_particles", "", "loop_", *names, *map(" ".join, rows.astype(str).values), ""]
    (folder / "p.star").write_text("\n".join(text))
    return folder / "p.star"


COMMANDS = {
    "refine": lambda made, mask, out: [
        made.star, "--mask", mask, "--half-maps", *halves(made), "--iterations", "1", "--out", out / "r.zarr",
    ],
    "subtract": lambda made, mask, out: [
        made.star, "--mask", mask, "--half-maps", *halves(made), "--out", out / "s",
    ],
    "recenter": lambda made, mask, out: [made.star, "--mask", mask, "--point", "box", "--out", out / "c"],
    "fsc": lambda made, mask, out: [*halves(made), "--mask", mask],
    "locres": lambda made, mask, out: [*halves(made), "--mask", mask, "--out", out / "l.mrc", "--window", "60"],
    "filter": lambda made, mask, out: [*halves(made), "--mask", mask, "--out", out / "f.mrc"],
    "mask": lambda made, mask, out: [*halves(made), "--and", mask, "--out", out / "n.mrc"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_takes_a_mask_tells_its_faults(
    made: FlexibleParticle, tmp_path: Path, capsys: Out, command: str
) -> None:
    bad = mask(tmp_path, np.roll(0.6 * soft_sphere(N, 9, 6), 10, 2))
    status, said = run(capsys, command, *COMMANDS[command](made, bad, tmp_path))
    assert status == 0, said
    for fault in ("the maximum should be 1", "is cut by the border of the box"):
        assert said.count(f"warning: {bad}: ") >= 2
        assert said.count(fault) == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("apix", "box", "remedy"), [(1.0, N, "--apix 4.6"), (5.75, 32, "lrwidgets resample"), (APIX, 32, "re-box")]
)
def test_every_command_that_takes_a_mask_says_how_to_give_it_the_right_grid(
    made: FlexibleParticle, tmp_path: Path, capsys: Out, command: str, apix: float, box: int, remedy: str
) -> None:
    bad = mask(tmp_path, soft_sphere(box, 8, 5), apix)
    status, said = run(capsys, command, *COMMANDS[command](made, bad, tmp_path))
    assert status == 2
    assert remedy in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith(f"error: {bad}: ")


@pytest.mark.parametrize("command", ["refine", "subtract", "recenter", "fsc", "locres", "filter", "mask"])
def test_every_command_that_takes_half_maps_tells_of_copies(
    made: FlexibleParticle, tmp_path: Path, capsys: Out, command: str
) -> None:
    first = io.read_volume(halves(made)[0])
    io.write_volume(tmp_path / "copy.mrc", Volume(2.5 * first.data, first.pixel_size_A))
    given = COMMANDS[command](made, mask(tmp_path, soft_sphere(N, 9, 8)), tmp_path)
    if command == "recenter":
        given = [*given, "--half-maps", *halves(made)]
    given = [tmp_path / "copy.mrc" if part == halves(made)[1] else part for part in given]
    _, said = run(capsys, command, *given)
    assert said.count(f"warning: {tmp_path / 'copy.mrc'}: is a scaled copy of {halves(made)[0]}") == 1


def test_half_maps_of_a_smaller_box_are_resampled_as_the_message_says(
    made: FlexibleParticle, tmp_path: Path, capsys: Out
) -> None:
    good = mask(tmp_path, soft_sphere(N, 9, 8))
    small = [tmp_path / f"small{half}.mrc" for half in (1, 2)]
    for source, path in zip(halves(made), small, strict=True):
        assert run(capsys, "resample", source, "--box", 32, "--apix", 5.75, "--out", path)[0] == 0
    given = [
        "refine",
        made.star,
        "--mask",
        good,
        "--half-maps",
        *small,
        "--iterations",
        1,
        "--out",
        tmp_path / "r.zarr",
    ]
    status, said = run(capsys, *given)
    assert status == 2
    assert "the same extent: resample the map" in said
    assert "or leave the half maps out" in said
    command = said.partition("lrwidgets ")[2].partition(";")[0].replace("NEW.mrc", str(tmp_path / "back1.mrc")).split()
    assert run(capsys, *command)[0] == 0
    back = io.read_volume(tmp_path / "back1.mrc")
    assert (back.box, back.pixel_size_A) == (N, pytest.approx(APIX))
    assert np.corrcoef(back.data.ravel(), io.read_volume(halves(made)[0]).data.ravel())[0, 1] > 0.8


def test_a_grid_to_resample_to_is_a_map_or_numbers(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    good, out = mask(tmp_path, soft_sphere(32, 8, 4), 5.75), tmp_path / "o.mrc"
    for grid, box, apix in (
        (["--like", halves(made)[0]], N, APIX),
        (["--box", "64"], 64, 2.875),
        (["--apix", "2"], 92, 2.0),
        (["--box", "20", "--apix", "5.75"], 20, 5.75),
    ):
        assert main([*map(str, ["resample", good, *grid, "--out", out, "--overwrite", "--json"])]) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record["box"], record["pixel_size_A"], record["mask"]) == (box, pytest.approx(apix), True)
        found = io.read_volume(out)
        assert (found.box, found.pixel_size_A) == (box, pytest.approx(apix))
        assert 0 <= found.data.min() < found.data.max() <= 1
    for wrong in ([], ["--like", good, "--box", "9"], ["--box", "1"], ["--apix", "0.001"]):
        status, said = run(capsys, "resample", good, *wrong, "--out", tmp_path / "no.mrc")
        assert (status, said.count("\n")) == (2, 1)
    status, said = run(capsys, "resample", good, "--box", 20, "--out", good)
    assert status == 2
    assert "is the input itself" in said
    assert not (tmp_path / "no.mrc").exists()


def test_a_mask_beyond_0_and_1_is_clipped_by_the_command_that_the_message_names(tmp_path: Path, capsys: Out) -> None:
    bad = mask(tmp_path, 1.1 * soft_sphere(N, 9, 8) - 0.05)
    status, said = run(capsys, "fsc", bad, bad, "--mask", bad)
    assert status == 2
    command = said.partition("(lrwidgets ")[2].partition(")")[0].replace("NEW.mrc", str(tmp_path / "n.mrc")).split()
    assert run(capsys, *command)[0] == 0
    assert run(capsys, "fsc", bad, bad, "--mask", tmp_path / "n.mrc")[0] == 0


def faulty(made: FlexibleParticle, folder: Path) -> tuple[Path, list[str]]:
    """Particles with four faults, and a part of each line that tells one."""
    zero = {
        name: lambda i: "0.0" if i < 9 else str(20 * i % 170) for name in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
    }
    shift = {f"rlnOrigin{axis}Angst": lambda i: "0.0" if i < 9 else f"{i / 9:.3f}" for axis in "XY"}
    more = {
        "rlnCtfBfactor": lambda i: "-7.5" if i == 4 else "20",
        "rlnMicrographName": lambda i: f"m{i // 30}.mrc",
        "rlnHelicalTubeID": lambda i: str(i % 30 // 10),
        "rlnRandomSubset": lambda i: "2" if i < 20 else "1",
    }
    lines = [
        "row 5: B-factor -7.5 A2 is below 0",
        "9 of 60 particles have all angles and shifts 0 (the first in row 1)",
        "half sets of 40 and 20 particles",
    ]
    return table(made, folder, **zero, **shift, **more), lines


def test_info_tells_what_refine_warns_of(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    star, lines = faulty(made, tmp_path)
    images = made.star.parent
    good = mask(tmp_path, soft_sphere(N, 9, 8))
    (tmp_path / "particles.mrcs").symlink_to(images / "particles.mrcs")
    status, said = run(capsys, "refine", star, "--mask", good, "--iterations", 1, "--out", tmp_path / "r.zarr")
    warned = {line.partition("warning: ")[2] for line in said.splitlines() if line.startswith("warning: ")}
    assert status == 0
    assert main(["info", str(star), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["warnings"]) <= warned
    assert all(any(line in warning for warning in facts["warnings"]) for line in lines)
    assert main(["info", str(star)]) == 0
    out = capsys.readouterr()
    assert all(sum(line in text for text in out.out.splitlines()) == 1 for line in lines)
    assert out.err == ""
    assert main(["info", str(mask(tmp_path, 1 - soft_sphere(N, 9, 8)))]) == 0
    assert "is it the wrong way round" in capsys.readouterr().out


def test_info_tells_what_refine_refuses(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "particles.mrcs").symlink_to(made.star.parent / "particles.mrcs")
    zero = {name: lambda _: "0" for name in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")}
    for columns, said in (
        (zero, "the same direction of view"),
        ({"rlnCtfBfactor": lambda _: "-9000"}, "multiplies the CTF"),
    ):
        star = table(made, tmp_path, **columns)
        assert main(["info", str(star), "--json"]) == 0
        assert said in json.loads(capsys.readouterr().out)["missing"][0]
        status, error = run(
            capsys, "refine", star, "--mask", mask(tmp_path, soft_sphere(N, 9, 8)), "--out", tmp_path / "r.zarr"
        )
        assert status == 2
        assert said in error.splitlines()[-1]
        assert not (tmp_path / "r.zarr").exists()


def test_new_half_sets_of_filaments_are_told(made: FlexibleParticle, tmp_path: Path, capsys: Out) -> None:
    star, _ = faulty(made, tmp_path)
    (tmp_path / "particles.mrcs").symlink_to(made.star.parent / "particles.mrcs")
    good = mask(tmp_path, soft_sphere(N, 9, 8))
    given = ["refine", star, "--mask", good, "--iterations", 1, "--out", tmp_path / "r.zarr", "--resplit"]
    status, said = run(capsys, *given)
    assert status == 0
    assert "each of 6 helical filaments is in one of them as a whole" in said
    assert "segments in both half sets" not in said


@pytest.mark.parametrize("apix", [None, 9.2])
def test_neighbours_are_not_removed_by_a_wrong_pixel_size(
    made: FlexibleParticle, tmp_path: Path, capsys: Out, apix: float | None
) -> None:
    (tmp_path / "particles.mrcs").symlink_to(made.star.parent / "particles.mrcs")
    star = table(
        made, tmp_path, rlnMicrographName=lambda i: f"m{i // 2}.mrc", rlnCoordinateX=lambda i: str(100 + 10 * (i % 2)),
        rlnCoordinateY=lambda _: "100", rlnMicrographOriginalPixelSize=lambda _: "2.3",
        rlnOriginXAngst=lambda _: "0", rlnOriginYAngst=lambda _: "0",
    )  # fmt: skip
    given = ["duplicates", star, "--distance", 60, "--out", tmp_path / "o.star"]
    status, said = run(capsys, *given, *([] if apix is None else ["--micrograph-apix", apix]))
    assert status == (2 if apix is None else 0)
    if apix is None:
        assert "only that of the movies (2.3 A) and of the images (4.6 A)" in said
        assert "--micrograph-apix" in said
    else:
        assert len(io.read_particles(tmp_path / "o.star")) == 60
