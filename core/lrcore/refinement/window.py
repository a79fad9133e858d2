"""The window about the mask in which iterations work, and the conversions between its frame and that of the box.

All that an iteration reads and makes is of the size of the window D, not of the box n: images, reference, sums of the
reconstruction, half maps, FSC and noise. An image's window is cut about a point p of the image, near the projection of
the mask's centre c; in the frame of the window, the origin of a pose (A, o) is at p − (A c)_xy + o.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lrcore.arrays import Float64
from lrcore.imaging.fourier_volume import filter_map
from lrcore.imaging.grids import FourierSamples, shell_frequency, window_at
from lrcore.maps.body_maps import MapsAmidStart
from lrcore.maps.fsc import masked_fsc, randomisation_shell
from lrcore.maps.solvent_mask import LOOSE_A, cosine_falloff, outline_distance_A
from lrcore.maps.window_fsc import windowed_fsc_curves
from lrcore.records import Fsc, HalfMaps, Step, Volume
from lrcore.refinement.geometry import SearchGeometry, seen_in_images
from lrcore.refinement.parameters import RefineSpec

GRID = 2.0
"""Where the search is re-centred, windows are cut about the points of a grid with this spacing, pixels."""
COARSE_SHELLS = (1, 3)
"""Shells of a window: up to the first, a body's map is that of the start, from the last on that of the windows."""
LEAST_SHARE = (0.3, 0.3, 0.3, 0.1)
"""Least sum of a window's weights, as a share of the mean of its shell and both neighbours, for shells 0, 1, 2, …

The crop spreads each CTF² over neighbouring shells. Where it passes next to nothing, as at the origin, the sums are
small or negative, and the ratio to them would be without bounds.
"""
LARGEST_EXCESS = 1.25
"""A window is kept from iteration to iteration while it is at most this much larger than the search needs."""


@dataclass(frozen=True)
class Window:
    """Cubic window about the mask.

    Attributes
    ----------
    box : n, voxels
    size : D, voxels
    centre : middle of the window, (x, y, z) in voxels from n // 2
    pixel_size_A : Å
    """

    box: int
    size: int
    centre: tuple[int, int, int]
    pixel_size_A: float

    @property
    def samples(self) -> FourierSamples:
        """All samples of a window's half plane up to the Nyquist frequency, the origin last."""
        return _all_samples(self.size)

    def crop(self, volume: Volume) -> Volume:
        """Return the part of a map (n, n, n) in the window: (D, D, D)."""
        middle = tuple(c + self.box // 2 for c in self.centre[::-1])
        return Volume(window_at(volume.data, middle, self.size), self.pixel_size_A)

    def geometry(self, geometry: SearchGeometry) -> SearchGeometry:
        """Return the geometry of a search in the frame of the window."""
        centre = np.zeros(3)
        return replace(
            geometry, box=self.size, window=self.size, centre=centre, fulcrum=geometry.fulcrum - geometry.centre
        )

    def seen_at(self, rotation: Float64, origin_A: Float64, magnification: Float64 | None = None) -> Float64:
        """Return where poses show the middle of the window: (..., 2), (x, y) in pixels from the image's centre.

        rotation: (B, 3, 3) or (B, P, 3, 3). origin_A: (B, 2) or (B, P, 2). magnification: (B, 3, 3) or None.
        """
        return seen_in_images(np.array(self.centre), rotation, origin_A, self.pixel_size_A, magnification)

    def shells(self, of_box: Float64) -> Float64:
        """Return values (..., n // 2 + 1) of the box's shells at the shells of the window: (..., D // 2 + 1)."""
        return _resample_shells(of_box, self.box, self.size)

    def shells_of_box(self, values: Float64) -> Float64:
        """Return values (..., D // 2 + 1) of the window's shells at the shells of the box: (..., n // 2 + 1)."""
        return _resample_shells(values, self.size, self.box)

    def fsc_at_window(self, fsc: Fsc) -> Fsc:
        """Return an FSC curve of the box at the shells of the window."""
        return Fsc(fsc.kind, shell_frequency(self.size, self.pixel_size_A), self.shells(fsc.value))

    def fsc_of(self, maps: HalfMaps, mask: Volume, workers: int) -> dict[str, Fsc]:
        """Return the FSC curves inside the mask (masked, randomised, corrected) of half maps of the window.

        Phases are random from the shell on where the FSC of the whole window, or inside an automatic loose mask, has
        fallen below 0.8, whichever is later.

        Parameters
        ----------
        maps : (D, D, D) each
        mask : (D, D, D)
        workers : threads of the Fourier transforms

        Returns
        -------
        dict
            Curves at the shells of the box.
        """
        both = (maps.first.data, maps.second.data)
        loose = cosine_falloff(outline_distance_A(*both, self.pixel_size_A, workers), LOOSE_A)
        start = max(randomisation_shell(masked_fsc(*both, region, workers)) for region in (None, loose))
        first = int(np.ceil(start * self.box / self.size))
        return windowed_fsc_curves(both, mask.data, self.box, self.pixel_size_A, first, workers=workers)


@lru_cache(maxsize=4)
def _all_samples(size: int) -> FourierSamples:
    """Return `Window.samples` of a window of that size."""
    reach = size // 2
    ky, kx = np.mgrid[-reach : reach + 1, 0 : reach + 1]
    keep = (np.hypot(kx, ky) <= reach) & ((kx > 0) | (ky > 0))
    kx, ky = (np.append(k[keep], 0).astype(np.int32) for k in (kx, ky))
    return FourierSamples(kx, ky, (len(kx),), size)


def _resample_shells(values: Float64, old: int, new: int) -> Float64:
    """Return values at the shells of one box, (..., old // 2 + 1), at those of another with the same pixel size."""
    at, known = np.arange(new // 2 + 1) * (old / new), np.arange(old // 2 + 1)
    rows = [np.interp(at, known, row) for row in values.reshape(-1, len(known))]
    return np.reshape(rows, (*values.shape[:-1], len(at)))


def window_of(job_mask: Volume, spec: RefineSpec, geometry: SearchGeometry, last: Step) -> Window | None:
    """Return the window of the iteration after a step; None where it works on whole images.

    Whole images are needed by a mask that moves (`mask_mode=dynamic`) and by the Ewald sphere (`ewald`), and they are
    no larger than a window that fills the box. A window that is a little too large stays as it is, so that images that
    were cut to it can be used again.

    Parameters
    ----------
    job_mask : (n, n, n)
    spec : parameters of the refinement
    geometry : of the search
    last : step before the iteration
    """
    x, y, z = (int(c) for c in geometry.centre)
    size = geometry.window
    if spec.mask_mode == "dynamic" or spec.ewald != "none":
        return None
    if spec.recenter_rotations or spec.recenter_shifts:
        size = min(size + 2 * int(GRID), geometry.box)
    kept = last.body
    if kept and kept.centre == (x, y, z) and size <= len(kept.held) <= LARGEST_EXCESS * size:
        size = len(kept.held)
    if size >= geometry.box:
        return None
    return Window(geometry.box, size, (x, y, z), geometry.pixel_size_A)


def cut_points(points: Float64, spec: RefineSpec) -> Float64:
    """Return the points (B, 2) about which windows are cut, pixels; centres of the search are seen at `points`.

    Where the search is re-centred these change from iteration to iteration. Windows are then cut about the nearest
    point of a grid, and stay the same while that does.
    """
    if spec.recenter_rotations or spec.recenter_shifts:
        return np.asarray(GRID * np.rint(points / GRID), np.float64)
    return points


def continued_step(first: Step, step: Step) -> Step:
    """Return a step as the next iteration goes on from it: with the body amid the start's maps, and the body's FSC.

    Whether its whole half maps were made makes no difference then.

    Parameters
    ----------
    first : step 0 of the run
    step : the step before the iteration
    """
    if step.body is None:
        return step
    maps = MapsAmidStart(first.half_maps, step.body)
    return replace(step, half_maps=maps, fsc={**step.fsc, "corrected": step.body.corrected})


def body_in_window(step: Step, window: Window) -> HalfMaps:
    """Return the half maps from which an iteration goes on, in its window.

    Parameters
    ----------
    step : the step before, from `continued_step`
    window : of the iteration

    Returns
    -------
    HalfMaps
        Those of the body where the step has them in this very window, else a part of the whole maps.
    """
    body = step.body
    if body and body.centre == window.centre and len(body.held) == window.size:
        return body.half_maps
    return HalfMaps(window.crop(step.half_maps.first), window.crop(step.half_maps.second))


def step_in_window(step: Step, window: Window) -> Step:
    """Return a step whose half maps and FSC curves are those of the window, as `make_reference` takes them."""
    fsc = {"corrected": window.fsc_at_window(step.corrected)}
    return replace(step, half_maps=body_in_window(step, window), fsc=fsc)


def with_coarse_shells(volume: Volume, coarse: Volume, workers: int) -> Volume:
    """Return a map of the window whose coarsest shells are those of another map.

    A window cuts the image of a point, which is spread by the CTF. At wavelengths about the size of the window, where
    the CTF passes next to nothing, the sums of the reconstruction are mostly noise, and their ratio is too low.

    Parameters
    ----------
    volume : (D, D, D), reconstructed from windows
    coarse : (D, D, D), of which shells up to COARSE_SHELLS[0] are taken, and fewer and fewer up to COARSE_SHELLS[1]
    workers : threads of the Fourier transforms
    """
    first, last = COARSE_SHELLS
    share = np.clip((last - np.arange(volume.box // 2 + 1)) / (last - first), 0.0, 1.0)
    change = filter_map(coarse.data - volume.data, share, workers)
    return replace(volume, data=volume.data + change)


def held_density(mask: Volume, window: Window, subtracted: bool) -> npt.NDArray[np.float32]:
    """Return `BodyMaps.held`: the mask in the window where the rest is subtracted from the images, else 1."""
    return window.crop(mask).data if subtracted else np.ones((window.size,) * 3, np.float32)
