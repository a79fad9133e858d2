"""Check the places that a command will write to, before it reads or computes anything."""

from argparse import Namespace

from lrcore.io.paths import require_writable_file, require_writable_folder
from lrwidgets.cli.option_types import is_table, output_folder, output_table_or_folder


def require_writable_outputs(arguments: Namespace) -> None:
    """Check every output option that is given.

    Parameters
    ----------
    arguments : arguments of a command, with the `outputs` that its parser lists

    Raises
    ------
    InputError
        If a file or folder cannot be written.
    """
    for name, kind in arguments.outputs:
        path = getattr(arguments, name)
        if path is None:
            continue
        is_folder = kind is output_folder or (kind is output_table_or_folder and not is_table(path))
        (require_writable_folder if is_folder else require_writable_file)(path)
