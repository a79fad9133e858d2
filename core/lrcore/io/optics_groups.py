"""Take the particles of some optics groups out of a particle file, also of one that cannot be refined as a whole."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lrcore.arrays import Bool, Float64, Int64, IntArray, StructuredArray
from lrcore.errors import InputError
from lrcore.io import convert, cs_particles, cs_table, star_optics, star_table
from lrcore.io.checks import SAME_PIXEL
from lrcore.io.cs_table import CsSource, decode_text, finite_field
from lrcore.io.file_type import is_cryosparc_particle_file
from lrcore.io.paths import find_in_parent_folders, refuse_to_overwrite_inputs, stack_name_from_folder
from lrcore.io.star_table import IMAGE, StarSource, relion_stack_name
from lrcore.io.star_text import write_blocks


@dataclass(frozen=True)
class GroupChoice:
    """Choice of optics groups by their names and their images.

    Attributes
    ----------
    names : names or numbers of groups; none for all
    pixel_size_A : pixel size of the images, None for any
    box : box of the images in pixels, None for any
    """

    names: Sequence[str] = ()
    pixel_size_A: float | None = None
    box: int | None = None


def write_optics_groups(path: Path, out: Path, choice: GroupChoice) -> tuple[int, int]:
    """Write the rows of the wanted optics groups with all columns, and with image names that are valid from there.

    Parameters
    ----------
    path : .star, .cs or .csg file
    out : .star or .cs file to write; a .csg is written with a .cs
    choice : the wanted groups

    Returns
    -------
    kept, total : number of rows written, and of the file

    Raises
    ------
    InputError
        If a file cannot be read or written, there is no such group, or no row is left.
    """
    if out.suffix.lower() not in (".star", ".cs"):
        raise InputError(f"{out}: particles are written as .star or .cs: choose a name with one of these extensions")
    if is_cryosparc_particle_file(path):
        group = cs_table.read_source(path)
        for file in (out, out.with_suffix(".csg")):
            refuse_to_overwrite_inputs(file, group.files)
        rows = _rows_of_cs(group, choice)
        _write_cs(replace(group, table=_with_valid_paths(group, out.parent)[rows]), out)
        return len(rows), len(group.table)
    source = star_table.read_source(path)
    refuse_to_overwrite_inputs(out, [path])
    rows, optics = _rows_of_star(source, choice)
    _write_star(source, out, rows, optics)
    return len(rows), len(source.table)


def match_groups(path: Path, groups: Sequence[tuple[str, ...]], wanted: Sequence[str]) -> Bool:
    """Return which groups have one of the wanted names.

    Parameters
    ----------
    path : file or run, for messages
    groups : (m,) the names of each group; the first is that of messages
    wanted : names

    Returns
    -------
    (m,) bool

    Raises
    ------
    InputError
        If no group has such a name; lists the groups.
    """
    for name in wanted:
        if not any(name in names for names in groups):
            listed = ", ".join(dict.fromkeys(names[0] for names in groups))
            raise InputError(f"{path}: has no optics group {name}: choose from {listed}")
    return np.array([not set(names).isdisjoint(wanted) for names in groups], dtype=np.bool_)


def _rows_of_cs(source: CsSource, choice: GroupChoice) -> Int64:
    first, group, names = cs_particles.group_rows(source)
    exposure = source.table["ctf/exp_group_id"][first] if "ctf/exp_group_id" in source.fields else np.zeros(len(first))
    groups = [(name, f"{number:.0f}") for name, number in zip(names, exposure.astype(float), strict=True)]
    pixel = box = None
    if choice.pixel_size_A is not None:
        pixel = finite_field(source, "blob/psize_A")[first].astype(np.float64)
    if choice.box is not None:
        box = finite_field(source, "blob/shape")[first][:, 1].astype(np.int64)
    return _chosen_rows(source.path, choice, groups, pixel, box, group)


def _rows_of_star(source: StarSource, choice: GroupChoice) -> tuple[Int64, Int64]:
    """Return the rows of the chosen groups in the particle table and in the optics table."""
    path, (group, table) = source.path, star_optics.group_rows(source)
    names = (
        table[star_optics.NAME] if star_optics.NAME in table.columns else [f"opticsGroup{n + 1}" for n in table.index]
    )
    numbers = [f"{n + 1}" for n in range(len(table))]
    if source.optics is not None:
        numbers = [f"{number:g}" for number in star_table.float_column(path, table, star_optics.GROUP)]
    pixel = None if choice.pixel_size_A is None else star_optics.pixel_sizes(path, table)
    box = None if choice.box is None else star_table.integer_column(path, table, star_optics.SIZE)
    rows = _chosen_rows(path, choice, list(zip(map(str, names), numbers, strict=True)), pixel, box, group)
    return rows, np.unique(group[rows])


def _chosen_rows(
    path: Path,
    choice: GroupChoice,
    groups: Sequence[tuple[str, ...]],
    pixel: Float64 | None,
    box: Int64 | None,
    group: IntArray,
) -> Int64:
    """Return the rows whose group is chosen, from the group (n,) of each row and names, pixel sizes and boxes (m,)."""
    kept = match_groups(path, groups, choice.names) if choice.names else np.ones(len(groups), np.bool_)
    if pixel is not None:
        kept &= np.abs(pixel / (choice.pixel_size_A or 1.0) - 1) <= SAME_PIXEL
    if box is not None:
        kept &= box == choice.box
    rows = np.nonzero(kept[group])[0]
    if len(rows) == 0:
        raise InputError(f"{path}: no particle is in such an optics group: see its groups with lrwidgets info")
    return rows


def _write_cs(source: CsSource, out: Path) -> None:
    if out.suffix.lower() == ".cs":
        cs_particles.write_table(out, source.table, source.slots, source.version)
    else:
        write_blocks(out, convert.cs_to_star(source))


def _write_star(source: StarSource, out: Path, rows: Int64, optics: Int64) -> None:
    table = source.table.iloc[rows].reset_index(drop=True)
    index, stacks = star_table.parse_image_names(source.path, table)
    changed = _changed_names(stacks.cat.categories, source.path.parent, out.parent)
    table[IMAGE] = [
        f"{number + 1:06d}@{relion_stack_name(changed[stack])}" if stack in changed else name
        for number, stack, name in zip(index.tolist(), stacks, table[IMAGE], strict=True)
    ]
    blocks = source.blocks | {source.particles: table}
    if source.optics is not None:
        blocks[source.optics] = source.blocks[source.optics].iloc[optics].reset_index(drop=True)
    if out.suffix.lower() == ".star":
        write_blocks(out, blocks)
        return
    fields = convert.star_to_cs(replace(source, blocks=blocks, uid=source.uid[rows]))
    cs_particles.write_table(out, fields, cs_particles.slot_types(fields))


def _with_valid_paths(source: CsSource, folder: Path) -> StructuredArray:
    """Return the table with the paths of the stacks as seen from `folder`."""
    if "blob/path" not in source.fields:
        return source.table
    names = decode_text(source.table["blob/path"])
    changed = {name: f">{new}" for name, new in _changed_names(set(names), source.path.parent, folder).items()}
    if not changed:
        return source.table
    raw = source.table["blob/path"].tolist()
    paths = [changed[name].encode() if name in changed else path for name, path in zip(names, raw, strict=True)]
    return cs_table.with_columns(source.table, {"blob/path": np.array(paths)})


def _changed_names(names: Iterable[str], table_folder: Path, folder: Path) -> dict[str, str]:
    """Return the names of existing stacks that do not lead to them from `folder`, and those that do."""
    found = {name: find_in_parent_folders(name, table_folder) for name in names}
    new = {name: stack_name_from_folder(folder, stack, name) for name, stack in found.items() if stack is not None}
    return {name: other for name, other in new.items() if other != name}
