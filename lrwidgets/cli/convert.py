"""The command convert: particle metadata from STAR to CryoSPARC and back, without the images."""

import warnings
from argparse import Namespace

from lrcore.errors import InputError
from lrcore.io import convert as conversion
from lrcore.io import cs_particles, cs_table, star_table, star_text
from lrcore.io.paths import refuse_to_overwrite_inputs, require_parent_folder
from lrwidgets.cli.printer import Printer

INVERTED = (
    "the images have inverted contrast (blob/sign -1), which RELION cannot be told: invert them before it uses this "
    "file (we read the sign from it, unless it is written --plain)"
)


def convert(arguments: Namespace) -> None:
    """Write B with all that A says of the particles."""
    source, target = arguments.source, arguments.target
    suffix = target.suffix.lower()
    if suffix not in (".star", ".cs"):
        raise InputError(f"{target}: name it .star or .cs: these are the files that can be written")
    from_star = source.suffix.lower() == ".star"
    if from_star == (suffix == ".star"):
        raise InputError(f"{target}: is of the same kind as {source}: copy it, or name it otherwise")
    require_parent_folder(target)
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
    Printer(arguments.json).report(f"wrote {target} ({count} particles)", "written", path=target, particles=count)
