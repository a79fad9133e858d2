"""Make masks from atomic models: read the selected atoms of a PDB or mmCIF file and find the voxels near them."""

from pathlib import Path

import numpy as np

from lrcore.arrays import Bool, Float64
from lrcore.errors import InputError
from lrcore.masks.distance import squared_distance
from lrcore.records import Volume


def read_atoms(path: str | Path, selection: str = "") -> Float64:
    """Read the positions of the selected atoms of all models of a PDB or mmCIF file.

    Parameters
    ----------
    path
        PDB or mmCIF file.
    selection
        Selection in the CCP4 syntax of gemmi, `/model/chain/residues/atoms`, such as `//A,B` or `//A/10-120/CA`; an
        empty one selects all atoms.

    Returns
    -------
    (m, 3) positions (x, y, z) in Å in the frame of the file.

    Raises
    ------
    InputError
        If gemmi is not installed, the file or the selection cannot be read, or no atom is selected.
    """
    try:
        import gemmi
    except ImportError as error:
        raise InputError(f"{path}: masks from models need gemmi: pip install 'lrwidgets[models]'") from error
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable PDB or mmCIF file ({error})") from error
    try:
        selected = gemmi.Selection(selection or "*").copy_structure_selection(structure)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"selection {selection!r}: write /model/chain/residues/atoms, such as //A/10-120") from error
    atoms = [row.atom.pos.tolist() for model in selected for row in model.all()]
    if not atoms:
        chains = sorted({chain.name for model in structure for chain in model})
        raise InputError(
            f"{path}: the selection {selection!r} matches no atom; the chains are {', '.join(chains) or 'none'}"
        )
    return np.array(atoms)


def voxels_near_atoms(volume: Volume, atoms_A: Float64, radius_A: float) -> Bool:
    """Return the voxels within a distance of an atom.

    The result is exact: distances on the grid decide for most voxels, and the uncertain ones are measured from the
    atoms.

    Parameters
    ----------
    volume : Volume
        Its box, voxel size and `header_origin_A` (the position of the first voxel) define the grid.
    atoms_A : (m, 3)
        Positions (x, y, z) in Å in the frame of the map's file.
    radius_A
        Distance in Å.

    Returns
    -------
    (n, n, n) bool.

    Raises
    ------
    InputError
        If an atom lies outside the box, or the radius is not positive.
    """
    from scipy.spatial import cKDTree

    if not radius_A > 0:
        raise InputError("the radius about the atoms must be above 0")
    places = (atoms_A - np.asarray(volume.header_origin_A)) / volume.pixel_size_A
    _check_within(places, volume)
    radius = radius_A / volume.pixel_size_A
    seeds = np.zeros(volume.data.shape, bool)
    seeds[tuple(np.rint(places).astype(int).clip(0, volume.box - 1).T[::-1])] = True
    # An atom is at most √3 / 2 voxels from its seed; one voxel is a safe bound, clipping included.
    distance = np.sqrt(squared_distance(seeds, int(np.ceil(radius)) + 1))
    inside: Bool = distance <= radius - 1
    uncertain = np.argwhere((distance > radius - 1) & (distance <= radius + 1))
    nearest, _ = cKDTree(places).query(uncertain[:, ::-1], distance_upper_bound=radius * (1 + 1e-9))
    inside[tuple(uncertain[np.isfinite(nearest)].T)] = True
    return inside


def _check_within(places: Float64, volume: Volume) -> None:
    """Raise InputError if any atom, at `places` (m, 3) in voxels from the first one, lies outside the box."""
    outside = int(((places < -0.5) | (places > volume.box - 0.5)).any(axis=1).sum())
    if outside:
        origin = f"origin {', '.join(f'{a:g}' for a in volume.header_origin_A)} A"
        raise InputError(
            f"{outside} of {len(places)} atoms lie outside the box of {volume.path or 'the map'} ({origin}): "
            "fit the model into this map, or select fewer atoms"
        )
