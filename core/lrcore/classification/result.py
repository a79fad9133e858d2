"""Result of a classification: posterior over the classes, and half maps and FSC of every class."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from lrcore.arrays import Float64, Int64
from lrcore.classification.fit import ClassAssignment
from lrcore.classification.settings import ClassificationSettings
from lrcore.imaging.fourier_volume import filter_map
from lrcore.maps.body_maps import body_in_box
from lrcore.maps.fsc import combined_gain
from lrcore.records import BodyMaps, Fsc, Volume


@dataclass(frozen=True)
class ClassMaps:
    """Maps of one class.

    Attributes
    ----------
    body : half maps in the window of the mask, of the images of either half set
    fsc : curves inside the mask by kind, as in `Step`
    """

    body: BodyMaps
    fsc: dict[str, Fsc]

    @property
    def resolution_A(self) -> float:
        """Resolution at a corrected FSC of 0.143, Å."""
        return self.fsc["corrected"].resolution_A()


@dataclass(frozen=True)
class Classification:
    """Result of a classification of n particles into K classes.

    Attributes
    ----------
    settings : of the classification
    resolution_A : finest resolution that was used to classify, Å
    posterior : (n, K), or (n, K + 1) with the empty class in the last column
    shares : (K,) or (K + 1,) of the particles in each class
    maps : K of them; None for a class that holds no particle of one of the half sets
    history : of all iterations, without their posteriors
    converged : True if the classification stopped because few particles changed their class
    uid : (n,) of the particles
    """

    settings: ClassificationSettings
    resolution_A: float
    posterior: Float64
    shares: Float64
    maps: tuple[ClassMaps | None, ...]
    history: tuple[ClassAssignment, ...]
    converged: bool
    uid: np.ndarray

    @property
    def label(self) -> Int64:
        """Most probable class of each particle, (n,), from 1; 0 for the empty class."""
        best = self.posterior.argmax(axis=1)
        return np.where(best < self.settings.classes, best + 1, 0)

    @property
    def sizes(self) -> Int64:
        """Number of particles of which each class is the most probable one, (K,) or (K + 1,)."""
        return np.bincount(self.posterior.argmax(axis=1), minlength=self.posterior.shape[1])

    @property
    def effective_sizes(self) -> Float64:
        """Effective number of particles in each class, (Σp)² / Σp²."""
        return self.posterior.sum(axis=0) ** 2 / np.maximum((self.posterior**2).sum(axis=0), 1e-300)

    @property
    def confusion(self) -> Float64:
        """Mean posterior (K', K') over the classes (columns) of the particles in each class (rows); NaN if empty."""
        best = self.posterior.argmax(axis=1)
        rows = [self.posterior[best == k] for k in range(self.posterior.shape[1])]
        return np.stack([row.mean(axis=0) if len(row) else np.full(len(rows), np.nan) for row in rows])


def class_map(maps: ClassMaps, box: int, workers: int = 1) -> Volume:
    """Return the map of a class in the box, the mean of its half maps filtered by their FSC; 0 outside its window.

    Parameters
    ----------
    maps : of the class
    box : n, voxels
    workers : threads of the Fourier transforms
    """
    first, second = (body_in_box(maps.body, box, half) for half in (1, 2))
    mean = filter_map(0.5 * (first.data + second.data), combined_gain(maps.fsc["corrected"].value), workers)
    return Volume(mean, first.pixel_size_A)


def to_dataset(result: Classification) -> xr.Dataset:
    """Return the result as a data set.

    Parameters
    ----------
    result : of a classification

    Returns
    -------
    Dataset
        posterior (particle, class) with the label of each particle, sizes, shares, effective sizes and confusion of the
        classes, half maps (class, half, z, y, x) in the window, FSC (class, frequency), and the history.
    """
    number, models = result.settings.classes, result.posterior.shape[1]
    names = np.concatenate([np.arange(1, number + 1), np.zeros(models - number, np.int64)])
    data = xr.Dataset(
        {
            "posterior": (("particle", "class"), result.posterior.astype(np.float32)),
            "label": (("particle",), result.label),
            "size": (("class",), result.sizes),
            "share": (("class",), result.shares),
            "effective_size": (("class",), result.effective_sizes),
            "confusion": (("class", "other_class"), result.confusion),
            **{
                name: (("iteration",), [getattr(entry, name) for entry in result.history])
                for name in ("temperature", "log_likelihood", "switched")
            },
            "share_history": (("iteration", "class"), [entry.shares for entry in result.history]),
        },
        coords={
            "class": names,
            "other_class": names,
            "particle": np.asarray(result.uid),
            "iteration": [entry.iteration for entry in result.history],
        },
        attrs={"resolution_A": result.resolution_A, "converged": int(result.converged)},
    )
    return data.merge(_maps_dataset(result))


def _maps_dataset(result: Classification) -> xr.Dataset:
    """Return half maps and FSC of the classes; NaN for a class without."""
    known = next((maps for maps in result.maps if maps is not None), None)
    if known is None:
        return xr.Dataset()
    size, curve = len(known.body.held), known.fsc["corrected"]
    halves = np.full((len(result.maps), 2, size, size, size), np.nan, np.float32)
    fsc = np.full((len(result.maps), len(curve.value)), np.nan)
    for at, maps in enumerate(result.maps):
        if maps is not None:
            halves[at] = [maps.body.half_maps.half(half).data for half in (1, 2)]
            fsc[at] = maps.fsc["corrected"].value
    pixel, centre = known.body.half_maps.first.pixel_size_A, known.body.centre
    axes = {name: (np.arange(size) - size // 2 + c) * pixel for name, c in zip("xyz", centre, strict=True)}
    return xr.Dataset(
        {
            "half_maps": (("dense_class", "half", "z", "y", "x"), halves),
            "fsc": (("dense_class", "frequency"), fsc),
            "resolution_A": (("dense_class",), [np.inf if m is None else m.resolution_A for m in result.maps]),
        },
        coords={
            "dense_class": np.arange(1, len(result.maps) + 1),
            "half": [1, 2],
            "frequency": curve.frequency,
            **axes,
        },
    )
