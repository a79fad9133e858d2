"""`lrwidgets convert`: convert particle metadata from STAR to .cs or back, without reading the images."""

import warnings
from argparse import Namespace

from lrcore.errors import InputError
from lrcore.io import convert as conversion
from lrcore.io import cs_particles, cs_table, star_table, star_text
from lrcore.io.file_type import is_cryosparc_particle_file
from lrcore.io.paths import refuse_to_overwrite_inputs
from lrwidgets.cli.printer import Printer

INVERTED = (
    "the images have inverted contrast (blob/sign -1), which a STAR file for RELION cannot state: invert the images "
    "before you use it in RELION (lrwidgets reads the sign from it, unless it was written with --plain)"
)


def convert(arguments: Namespace) -> None:
    """Write the particle metadata of A to B in the other format."""
    source, target = arguments.source, arguments.target
    suffix = target.suffix.lower()
    if suffix not in (".star", ".cs"):
        raise InputError(f"{target}: unknown type: name the file .star or .cs")
    from_star = not is_cryosparc_particle_file(source)
    if from_star == (suffix == ".star"):
        raise InputError(f"{target}: is of the same type as {source}: copy that file, or write the other type")
    if from_star:
        read = star_table.read_source(source)
        table = conversion.star_to_cs(read)
        cs_particles.write_table(target, table, cs_particles.slot_types(table))
        count = len(table)
    else:
        group = cs_table.read_source(source)
        refuse_to_overwrite_inputs(target, group.files)
        count = len(group.table)
        if "blob/sign" in group.fields and (group.table["blob/sign"] < 0).any():
            warnings.warn(f"{target}: {INVERTED}", stacklevel=2)
        star_text.write_blocks(target, conversion.cs_to_star(group, arguments.plain))
    Printer(arguments.json).report_file(target, f"{count} particles", particles=count)
