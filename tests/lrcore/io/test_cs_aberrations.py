"""CryoSPARC's aberrations: the phases of a wave aberration function that is written down here, and what travels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrcore import io
from lrcore.errors import InputError
from lrcore.imaging.aberrations import even_phase, odd_phase, odd_phase_correction
from lrcore.imaging.grids import ft
from lrcore.io import convert, cs_particles, cs_table, star_table
from lrcore.io.cs_aberrations import (
    FIELDS,
    Lengths,
    Microscope,
    ZernikeAberrations,
    inexpressible_terms,
    lengths_from_zernike,
    tilt_in_zernike,
    zernike_from_lengths,
)
from lrcore.records import Optics
from lrcore.units import electron_wavelength_A
from lrwidgets.cli._main import main
from tests.lrcore.io.conftest import Maker

VOLTAGE = 300.0
USUAL = Microscope(VOLTAGE, 2.7)
LENGTHS = Lengths((0.4, -0.7), (15000.0, -9000.0), (6000.0, 2500.0), (90000.0, -40000.0, 150000.0, 70000.0))
KX, KY = np.random.default_rng(1).uniform(-0.35, 0.35, (2, 200))


def wave_aberration(lengths: Lengths, kx: np.ndarray, ky: np.ndarray, cs_mm: float = 0.0) -> np.ndarray:
    """W in rad: 2π/λ times the sum of Krivanek's terms at the angle ω = λ (kx + i ky)."""
    wavelength = electron_wavelength_A(VOLTAGE)
    angle = wavelength * (kx + 1j * ky)
    shift, coma, trefoil = (complex(*pair) for pair in (lengths.shift_A, lengths.tilt_A, lengths.trefoil_A))
    star, tetrafoil = complex(*lengths.tetra_A[:2]), complex(*lengths.tetra_A[2:])
    turned = angle.conj()
    path = shift * turned + coma * turned**2 * angle + trefoil * turned**3 / 3
    path = path + star * turned**3 * angle + tetrafoil * turned**4 / 4 + cs_mm * 1e7 * np.abs(angle) ** 4 / 4
    return 2 * np.pi / wavelength * path.real


def group(found: ZernikeAberrations, microscope: Microscope = USUAL) -> Optics:
    return Optics(
        "og", microscope.voltage_kV, microscope.cs_mm, 0.1, 1.5, 64,
        beam_tilt_mrad=found.beam_tilt_mrad, odd_zernike=found.odd_zernike, even_zernike=found.even_zernike,
    )  # fmt: skip


def require_phases(optics: Optics, lengths: Lengths) -> None:
    """An odd aberration W multiplies the FT of an image by exp(−i W), an even one is taken from χ."""
    there, back = (wave_aberration(lengths, sign * KX, sign * KY) for sign in (1, -1))
    np.testing.assert_allclose(odd_phase(optics, KX, KY), (back - there) / 2, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(even_phase(optics, KX, KY), (there + back) / 2, rtol=1e-6, atol=1e-6)


number = st.floats(-1e5, 1e5).map(lambda value: round(value, 3))
lengths_of_any_size = st.builds(
    Lengths, st.tuples(number, number), st.tuples(number, number), st.tuples(number, number), st.tuples(*[number] * 4)
)


@given(lengths=lengths_of_any_size, cs_mm=st.sampled_from([0.0, 1e-4, 0.01, 2.7]))
def test_the_polynomials_are_the_wave_aberration(lengths: Lengths, cs_mm: float) -> None:
    microscope = Microscope(VOLTAGE, cs_mm)
    found = zernike_from_lengths(lengths, microscope)
    require_phases(group(found, microscope), lengths)
    back = lengths_from_zernike(found, microscope)
    for name in ("shift_A", "tilt_A", "trefoil_A", "tetra_A"):
        np.testing.assert_allclose(getattr(back, name), getattr(lengths, name), rtol=1e-9, atol=1e-6, err_msg=name)
    assert inexpressible_terms(found) == []


def test_a_tilted_beam_is_the_lens_seen_off_its_axis() -> None:
    """The argument for the signs: at a tilt τ the function W(k) of the lens becomes W(k + τ/λ).

    Its odd cubic part is a coma of τ C_s and, of a lens with tetrafoil, a trefoil of 3 τ times it: the odd terms have
    the sign of the even ones. RELION's beam tilt is that coma, so that of CryoSPARC is C_s τ, and the others follow.
    """
    tilt, wavelength = np.array([0.7e-3, -0.4e-3]), electron_wavelength_A(VOLTAGE)
    lens = Lengths(tetra_A=(0.0, 0.0, 5e6, -3e6))
    tilted = [
        wave_aberration(lens, sign * KX + tilt[0] / wavelength, sign * KY + tilt[1] / wavelength, 2.7)
        for sign in (1, -1)
    ]
    turned = 3 * complex(*lens.tetra_A[2:]) * complex(*tilt).conjugate()
    seen = Lengths(trefoil_A=(turned.real, turned.imag), tilt_A=tuple(tilt * 2.7e7))
    k = np.hypot(KX, KY)
    linear = np.linalg.lstsq(np.stack([KX, KY, *cubic_terms()]).T, (tilted[0] - tilted[1]) / 2)[0][:2] @ [KX, KY]
    cubic = (tilted[0] - tilted[1]) / 2 - linear
    assert np.abs(cubic).max() > 1
    np.testing.assert_allclose(wave_aberration(seen, KX, KY), cubic, atol=1e-6 * k.max())
    by_relion = group(ZernikeAberrations(tuple(tilt * 1e3)))
    np.testing.assert_allclose(
        odd_phase(by_relion, KX, KY), -wave_aberration(Lengths(tilt_A=seen.tilt_A), KX, KY), atol=1e-9
    )
    require_phases(group(zernike_from_lengths(seen, USUAL)), seen)


def cubic_terms() -> list[np.ndarray]:
    turned = (KX + 1j * KY) ** 3
    return [KX * (KX**2 + KY**2), KY * (KX**2 + KY**2), turned.real, turned.imag]


def test_an_image_shift_moves_the_image() -> None:
    """A point seen at p is seen at p + shift_A, so an origin is its shift less shift_A."""
    image = np.zeros((64, 64))
    image[30:33, 20:24] = 1.0
    optics = group(zernike_from_lengths(Lengths(shift_A=(3.0, -6.0)), USUAL))
    correction = odd_phase_correction(optics)
    assert correction is not None
    moved = np.roll(image, (-4, 2), (0, 1))
    np.testing.assert_allclose((ft(moved, 2) * correction)[:, :-1], ft(image, 2)[:, :-1], atol=1e-3)


@pytest.fixture
def job(make: Maker) -> Callable[..., Path]:
    """`job(tilt_A=…)` writes a .cs whose particles have these columns of the slot ctf."""

    def write(name: str = "J7/J7_particles.cs", alpha: object = None, **columns: object) -> Path:
        make.stack()
        path = make.folder / name
        path.parent.mkdir(exist_ok=True)
        particles = io.read_particles(make.star())
        io.write_particles(path, particles, particles.poses)
        table = np.load(path)
        new = {
            f"ctf/{field}": np.broadcast_to(np.float32(values), (len(table), *np.shape(values)))
            for field, values in columns.items()
        }
        if alpha is not None:
            new["alignments3D/alpha"] = np.float32(alpha)
        with path.open("wb") as file:
            np.save(file, cs_table.with_columns(table, new))
        return path

    return write


def all_lengths(lengths: Lengths = LENGTHS) -> dict[str, object]:
    return {name: getattr(lengths, name) for name in ("shift_A", "tilt_A", "trefoil_A", "tetra_A")}


@pytest.mark.parametrize("plain", [[], ["--plain"]])
def test_what_a_cs_file_says_is_applied_in_both_formats(job, plain: list[str]) -> None:
    path = job(**all_lengths(), cs_mm=2.7, accel_kv=300)
    particles = io.read_particles(path)
    for optics in particles.optics:
        require_phases(optics, LENGTHS)
    io.write_particles(path.parent / "export.star", particles, particles.poses)
    assert main(["convert", str(path), str(path.parent / "converted.star"), *plain]) == 0
    for name in ("export.star", "converted.star"):
        for optics in io.read_particles(path.parent / name).optics:
            require_phases(optics, LENGTHS)
    text = (path.parent / "converted.star").read_text()
    assert "rlnOddZernike" in text
    assert "rlnEvenZernike" in text
    assert "trefoil_A" not in text
    assert main(["convert", str(path.parent / "converted.star"), str(path.parent / "back.cs")]) == 0
    before, back = np.load(path), np.load(path.parent / "back.cs")
    for field in FIELDS:
        np.testing.assert_array_equal(back[field], before[field], err_msg=field)
    again = io.read_particles(path.parent / "back.cs")
    for optics in again.optics:
        require_phases(optics, LENGTHS)
    io.write_particles(path.parent / "again.cs", particles, particles.poses)
    for field in FIELDS:
        np.testing.assert_array_equal(np.load(path.parent / "again.cs")[field], before[field], err_msg=field)


def test_relion_3_would_replace_polynomials_by_the_columns_of_a_tilt(job) -> None:
    """So a tilt and an image shift are in one list, without these columns; a tilt and trefoil can be apart."""
    both = job(**all_lengths(replace(LENGTHS, shift_A=(0.0, 0.0))), cs_mm=2.7, accel_kv=300)
    with_shift = job("J8/J8_particles.cs", **all_lengths(), cs_mm=2.7, accel_kv=300)
    for path, columns in ((both, True), (with_shift, False)):
        particles = io.read_particles(path)
        io.write_particles(path.parent / "export.star", particles, particles.poses)
        assert main(["convert", str(path), str(path.parent / "converted.star")]) == 0
        for name in ("export.star", "converted.star"):
            assert ("rlnBeamTiltX" in (path.parent / name).read_text()) == columns
    tilted = ZernikeAberrations((0.5, -0.2), even_zernike=(1.0,))
    assert tilt_in_zernike([tilted], [USUAL]) == [tilted]
    shifted = ZernikeAberrations(odd_zernike=(1.0, 2.0))
    merged = tilt_in_zernike([tilted, shifted], [USUAL, USUAL])
    assert merged[1] == shifted
    assert merged[0].beam_tilt_mrad == (0.0, 0.0)
    np.testing.assert_allclose(odd_phase(group(merged[0]), KX, KY), odd_phase(group(tilted), KX, KY), atol=1e-9)
    assert merged[0].even_zernike == (1.0,)


@pytest.mark.parametrize("cs_mm", [0.0, 0.001])
def test_coma_of_a_corrected_lens_is_no_beam_tilt(job, cs_mm: float) -> None:
    path = job(**all_lengths(), cs_mm=cs_mm, accel_kv=300)
    for optics in io.read_particles(path).optics:
        assert optics.beam_tilt_mrad == (0.0, 0.0)
        require_phases(optics, LENGTHS)
    assert main(["convert", str(path), str(path.parent / "a.star")]) == 0
    assert main(["convert", str(path.parent / "a.star"), str(path.parent / "b.cs")]) == 0
    for field in FIELDS:
        np.testing.assert_array_equal(np.load(path.parent / "b.cs")[field], np.load(path)[field], err_msg=field)


def test_coma_that_is_no_microscopes_is_refused(job) -> None:
    with pytest.raises(InputError, match=r"ctf/tilt_A of -2e\+08 A is impossible at Cs 2.7 mm"):
        io.read_particles(job(tilt_A=(0.0, -2e8), cs_mm=2.7))


RELION = {
    "rlnOddZernike": ["[1.5,-2.5,12,3,-4,-30]", "[0,0,7.5]"],
    "rlnEvenZernike": ["[0,2.25,0,1.5,60,0.75,0,0.5,-75]", "[]"],
    "rlnBeamTiltX": [0.3, 0.0],
    "rlnBeamTiltY": [-0.1, 0.2],
}


def same_phases(one: Optics, other: Optics) -> None:
    for phase in (odd_phase, even_phase):
        np.testing.assert_allclose(phase(one, KX, KY), phase(other, KX, KY), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("without", [(), ("rlnBeamTiltX", "rlnBeamTiltY"), ("rlnOddZernike",), ("rlnEvenZernike",)])
def test_what_relion_says_is_applied_in_both_formats(make: Maker, without: tuple[str, ...], recwarn) -> None:
    """CryoSPARC's fields alone say it: an export has nothing else. A converted file also brings the texts back."""
    make.stack()
    star = make.star(optics=make.optics() | RELION, without=without)
    particles = io.read_particles(star)
    io.write_particles(make.folder / "export.cs", particles, particles.poses)
    assert main(["convert", str(star), str(make.folder / "there.cs")]) == 0
    assert main(["convert", str(make.folder / "there.cs"), str(make.folder / "back.star")]) == 0
    assert not [one for one in recwarn if "Zernike" in str(one.message)]
    fields = [name for name in FIELDS if name == "ctf/tilt_A" or len(without) != 1 or without[0] not in RELION]
    for field in fields:
        there, export = (np.load(make.folder / name)[field] for name in ("there.cs", "export.cs"))
        np.testing.assert_allclose(there, export, rtol=1e-6, err_msg=field)
    for name in ("export.cs", "there.cs", "back.star"):
        for one, other in zip(particles.optics, io.read_particles(make.folder / name).optics, strict=True):
            same_phases(one, other)
    before, back = (star_table.read_source(path).blocks["optics"] for path in (star, make.folder / "back.star"))
    for name in set(RELION) - set(without):
        if "Zernike" in name or not without or "rlnOddZernike" not in without:
            assert back[name].tolist() == before[name].tolist(), name


def test_a_fit_by_cryosparc_wins_over_what_travelled(make: Maker) -> None:
    make.stack()
    optics = make.optics() | RELION | {"rlnOddZernike": ["[0,0,12,0,0,-30,0.5]", "[]"]}
    with pytest.warns(UserWarning, match="degree 5"):
        table = convert.star_to_cs(star_table.read_source(make.star(optics=optics)))
    table["ctf/trefoil_A"] *= 2
    table["ctf/tetra_A"] += [1e5, 0.0, 0.0, 0.0]
    cs_particles.write_table(make.folder / "a.cs", table, cs_particles.slot_types(table))
    assert main(["convert", str(make.folder / "a.cs"), str(make.folder / "b.star")]) == 0
    before, now, there = (
        io.read_particles(make.folder / name).optics[0] for name in ("particles.star", "a.cs", "b.star")
    )
    same_phases(now, there)
    np.testing.assert_allclose(now.odd_zernike, [0, 0, 24, 0, 0, -60, 0.5], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(now.beam_tilt_mrad, before.beam_tilt_mrad, rtol=1e-6)
    more = (even_phase(now, KX, KY) - even_phase(before, KX, KY), Lengths(tetra_A=(1e5, 0.0, 0.0, 0.0)))
    np.testing.assert_allclose(more[0], wave_aberration(more[1], KX, KY), atol=2e-5)


def test_a_fit_by_relion_wins_over_what_travelled(job) -> None:
    path = job(trefoil_A=(0.0, 0.0), tetra_A=(0.0,) * 4, shift_A=(0.0, 0.0), cs_mm=2.7, accel_kv=300)
    star = path.parent / "a.star"
    assert main(["convert", str(path), str(star)]) == 0
    assert "lrwCs/ctf/trefoil_A" in star.read_text()
    source = star_table.read_source(star)
    source.blocks["optics"]["rlnOddZernike"] = ["[0,0,0,0,0,-10]"] * len(source.blocks["optics"])
    table = convert.star_to_cs(source)
    np.testing.assert_allclose(table["ctf/trefoil_A"][:, 0], 10 / USUAL.cubic, rtol=1e-6)
    assert not table["ctf/tetra_A"].any()


def test_a_file_of_an_older_conversion_is_read(make: Maker) -> None:
    """It carries the texts alone, and the tilt of the columns in ctf/tilt_A."""
    make.stack()
    star = make.star(optics=make.optics() | RELION)
    table = convert.star_to_cs(star_table.read_source(star))
    tilt = np.array([RELION["rlnBeamTiltX"], RELION["rlnBeamTiltY"]]).T * [[2.7e4], [1.4e4]]
    table["ctf/tilt_A"] = tilt[np.arange(len(table)) % 2]
    left = ("ctf/shift_A", "ctf/trefoil_A", "ctf/tetra_A", "star_optics/rlnBeamTiltX", "star_optics/rlnBeamTiltY")
    kept = [name for name in table.dtype.names if name not in left]
    cs_particles.write_table(make.folder / "old.cs", table[kept].copy(), cs_particles.slot_types(table))
    ours, theirs = (io.read_particles(make.folder / name).optics for name in ("particles.star", "old.cs"))
    for one, other in zip(ours, theirs, strict=True):
        same_phases(one, other)
        assert (other.odd_zernike, other.even_zernike) == (one.odd_zernike, one.even_zernike)


@pytest.mark.parametrize("field", ["shift_A", "trefoil_A", "tetra_A"])
def test_a_value_that_is_no_number_is_one_line(job, field: str, capsys) -> None:
    path = job(**{field: np.full(FIELDS[f"ctf/{field}"], np.nan)})
    with pytest.raises(InputError, match=rf"row 1 \(uid \d+\): ctf/{field} is not a finite number"):
        io.read_particles(path)
    assert main(["convert", str(path), str(path.parent / "a.star")]) == 2
    assert f"ctf/{field} is not a finite number" in capsys.readouterr().err
    assert not (path.parent / "a.star").exists()


EVEN_ONLY = {"rlnEvenZernike": ["[1.5,0,2]", "[0,0,0,0,0,3]"]}


def test_convert_says_what_cryosparc_will_not_see(make: Maker, capsys) -> None:
    star = make.star(optics=make.optics() | EVEN_ONLY | {"rlnCtfDataAreCtfPremultiplied": [0, 1]})
    assert main(["convert", str(star), str(make.folder / "a.cs")]) == 0
    told = capsys.readouterr().err
    assert "multiplied by their CTF (rlnCtfDataAreCtfPremultiplied): the .cs keeps the mark" in told
    assert "no field for the Zernike polynomials Z(2,-2), Z(0,0), Z(2,0): the .cs keeps them" in told


def test_alpha_is_the_scale_of_an_image(job) -> None:
    alpha = np.linspace(0.5, 1.5, 24)
    path = job(alpha=alpha, scale=0.8)
    particles = io.read_particles(path)
    np.testing.assert_allclose(particles.scale, 0.8 * alpha, rtol=1e-6)
    assert main(["convert", str(path), str(path.parent / "a.star")]) == 0
    np.testing.assert_allclose(io.read_particles(path.parent / "a.star").scale, 0.8 * alpha, rtol=1e-6)
    assert main(["convert", str(path.parent / "a.star"), str(path.parent / "b.cs")]) == 0
    io.write_particles(path.parent / "c.cs", particles, particles.poses)
    for name in ("b.cs", "c.cs"):
        back = np.load(path.parent / name)
        for field in ("alignments3D/alpha", "ctf/scale"):
            np.testing.assert_array_equal(back[field], np.load(path)[field], err_msg=field)
    io.write_particles(path.parent / "c.star", particles, particles.poses)
    np.testing.assert_allclose(io.read_particles(path.parent / "c.star").scale, 0.8 * alpha, atol=1e-6)


def test_a_scale_that_is_none_is_said(job) -> None:
    path = job(alpha=[1.2] * 20 + [0.0, -1.0, 0.9, 0.9])
    with pytest.warns(UserWarning, match=r"alignments3D/alpha is not above 0 for 2 of 24 particles \(first: row 21\)"):
        particles = io.read_particles(path)
    np.testing.assert_allclose(particles.scale / 0.9, [1.2] * 20 + [1.0, 1.0, 0.9, 0.9], rtol=1e-6)


def test_a_new_scale_is_written_as_alpha(job) -> None:
    path = job(alpha=[1.25] * 24, scale=0.8)
    particles = io.read_particles(path)
    scale = np.linspace(0.6, 1.4, 24)
    out = path.parent / "out.cs"
    io.write_particles(out, replace(particles, scale=particles.scale * scale), particles.poses)
    np.testing.assert_allclose(np.load(out)["alignments3D/alpha"], 1.25 * scale, rtol=1e-6)
    np.testing.assert_array_equal(np.load(out)["ctf/scale"], np.float32([0.8] * 24))
    np.testing.assert_allclose(io.read_particles(out).scale, scale, rtol=1e-6)


@pytest.mark.parametrize("change", [{"rlnVoltage": None}, {"rlnSphericalAberration": [0, 2.7]}])
def test_a_tilt_that_is_no_length_travels_as_text(make: Maker, change: dict[str, list[float] | None]) -> None:
    optics = make.optics() | {"rlnBeamTiltX": [0.3, 0.0], "rlnBeamTiltY": [-0.1, 0.2]} | change
    star = make.star(optics={name: column for name, column in optics.items() if column})
    assert main(["convert", str(star), str(make.folder / "a.cs")]) == 0
    assert main(["convert", str(make.folder / "a.cs"), str(make.folder / "b.star")]) == 0
    back = star_table.read_source(make.folder / "b.star").blocks["optics"]
    assert back["rlnBeamTiltX"].tolist() == ["0.3", "0.0"]
    assert back["rlnBeamTiltY"].tolist() == ["-0.1", "0.2"]
