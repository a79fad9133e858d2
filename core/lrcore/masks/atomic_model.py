"""Masks from atomic models: the atoms of a PDB or mmCIF file that a selection names, and what lies near them."""

from pathlib import Path

import numpy as np

from lrcore.arrays import Bool, Float64
from lrcore.errors import InputError
from lrcore.masks.distance import squared_distance
from lrcore.records import Volume


def read_atoms(path: str | Path, selection: str = "") -> Float64:
    """Positions (m, 3), (x, y, z) in Å in the frame of the file; of all its models.

    selection: gemmi's, that of CCP4: `/model/chain/residues/atoms`, such as `//A,B` or `//A/10-120/CA`; empty: all.
    Raises InputError if gemmi is not installed, the file or the selection cannot be read, or nothing is selected.
    """
    try:
        import gemmi
    except ImportError as error:
        raise InputError(f"{path}: masks from models need gemmi: pip install 'lrwidgets[models]'") from error
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path}: is no PDB or mmCIF file that can be read ({error})") from error
    try:
        chosen = gemmi.Selection(selection or "*").copy_structure_selection(structure)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"selection {selection!r}: write /model/chain/residues/atoms, such as //A/10-120") from error
    atoms = [row.atom.pos.tolist() for model in chosen for row in model.all()]
    if not atoms:
        chains = sorted({chain.name for model in structure for chain in model})
        raise InputError(f"{path}: no atom is selected by {selection!r}; its chains are {', '.join(chains) or 'none'}")
    return np.array(atoms)


def voxels_near_atoms(volume: Volume, atoms_A: Float64, radius_A: float) -> Bool:
    """Voxels within `radius_A` of an atom: (n, n, n) bool of the grid of `volume`.

    atoms_A: (m, 3) in the frame of the map's file, where the first voxel is at `header_origin_A`. Exact: voxels surely
    near and surely far are told by distances on the grid, and those in doubt are measured from the atoms. Raises
    InputError if an atom lies outside the box, or for a radius that is not positive.
    """
    from scipy.spatial import cKDTree

    if not radius_A > 0:
        raise InputError("the radius about the atoms must be above 0")
    places = (atoms_A - np.asarray(volume.header_origin_A)) / volume.pixel_size_A
    _check_within(places, volume)
    radius = radius_A / volume.pixel_size_A
    seeds = np.zeros(volume.data.shape, bool)
    seeds[tuple(np.rint(places).astype(int).clip(0, volume.box - 1).T[::-1])] = True
    # An atom is at most √3 / 2 voxels from its seed; one voxel is on the safe side of that, clipping included.
    distance = np.sqrt(squared_distance(seeds, int(np.ceil(radius)) + 1))
    inside: Bool = distance <= radius - 1
    doubt = np.argwhere((distance > radius - 1) & (distance <= radius + 1))
    nearest, _ = cKDTree(places).query(doubt[:, ::-1], distance_upper_bound=radius * (1 + 1e-9))
    inside[tuple(doubt[np.isfinite(nearest)].T)] = True
    return inside


def _check_within(places: Float64, volume: Volume) -> None:
    out = int(((places < -0.5) | (places > volume.box - 0.5)).any(axis=1).sum())
    if out:
        where = f"origin {', '.join(f'{a:g}' for a in volume.header_origin_A)} A"
        raise InputError(
            f"{out} of {len(places)} atoms lie outside the box of {volume.path or 'the map'} ({where}): "
            "fit the model into this very map, or select fewer atoms"
        )
