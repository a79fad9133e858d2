"""Keep the FTs of two half maps, each computed once, for all that a start makes of them."""

from dataclasses import dataclass

from lrcore.arrays import Float32, Float64
from lrcore.imaging.map_spectrum import MapSpectrum
from lrcore.records import HalfMaps


@dataclass(frozen=True)
class HalfMapSpectra:
    """FTs of two half maps on the same grid.

    Attributes
    ----------
    first, second : of half set 1 and 2
    """

    first: MapSpectrum
    second: MapSpectrum

    @classmethod
    def from_maps(cls, maps: HalfMaps, workers: int = 1) -> "HalfMapSpectra":
        """Transform two half maps. workers: threads of the FFT."""
        return cls(*(MapSpectrum.from_map(volume.data, workers) for volume in (maps.first, maps.second)))

    @property
    def both(self) -> tuple[MapSpectrum, MapSpectrum]:
        """Both FTs."""
        return self.first, self.second

    def half(self, number: int) -> MapSpectrum:
        """Return the FT of half set 1 or 2."""
        return self.both[number - 1]

    def cropped(self, limit: int) -> "HalfMapSpectra":
        """Return the FTs on a coarser grid, see `MapSpectrum.cropped`."""
        return HalfMapSpectra(*(spectrum.cropped(limit) for spectrum in self.both))

    def scaled(self, gains: Float64) -> "HalfMapSpectra":
        """Return the FTs with a gain for each shell: linear between shells, 0 beyond the last."""
        return HalfMapSpectra(*(spectrum.filtered(spectrum.shell_table(gains)) for spectrum in self.both))

    def to_maps(self, workers: int = 1) -> tuple[Float32, Float32]:
        """Transform back to two maps (n, n, n)."""
        return self.first.to_map(workers), self.second.to_map(workers)
