"""One FT of a map gives it filtered, in a window and on fewer voxels."""

import numpy as np
import pytest

from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import window_at
from lrcore.imaging.map_spectrum import MapSpectrum
from lrcore.imaging.resampling import resample_grid
from lrcore.testing import smooth_map

CENTRE = (20, 30, 25)


@pytest.mark.parametrize("n", [48, 51])
def test_a_filter_and_a_window_are_those_of_the_map(n):
    array, gain = smooth_map(n, 0), np.exp(-0.01 * np.arange(n // 2 + 1) ** 2)
    spectrum = MapSpectrum.from_map(array)
    assert spectrum.to_map() == pytest.approx(array, abs=1e-5)
    filtered, table = filter_map(array, gain), spectrum.shell_table(gain)
    assert spectrum.filtered(table).to_map() == pytest.approx(filtered, abs=1e-5)
    assert spectrum.window(table, CENTRE, 16) == pytest.approx(window_at(filtered, CENTRE, 16), abs=1e-5)


@pytest.mark.parametrize("n", [48, 51])
def test_a_low_pass_ends_at_its_shell(n):
    spectrum = MapSpectrum.from_map(smooth_map(n, 0))
    low = MapSpectrum.from_map(spectrum.filtered(spectrum.lowpass_table(7)).to_map())
    radius = np.sqrt(sum(k.astype(float) ** 2 for k in np.ogrid[tuple(slice(0, 10) for _ in range(3))]))
    part, whole = (np.abs(s.data[:10, :10, :10]) for s in (low, spectrum))
    assert np.all(part[radius >= 7] < 1e-4 * whole.max())
    assert part[radius < 7] == pytest.approx(whole[radius < 7], rel=1e-3, abs=1e-4 * float(whole.max()))


@pytest.mark.parametrize("n", [48, 51])
def test_on_fewer_voxels_the_map_has_the_same_values(n):
    array = smooth_map(n, 0)
    coarse = MapSpectrum.from_map(array).cropped(8)
    assert coarse.size == 32
    assert coarse.to_map() == pytest.approx(resample_grid(array, coarse.size, n / coarse.size), abs=1e-5)
    assert MapSpectrum.from_map(array).cropped(n // 2).size == n
