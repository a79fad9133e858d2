"""Check the places that a command will write to, before it reads or computes anything."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from lrcore.io.paths import (
    refuse_to_overwrite_inputs,
    require_new_file,
    require_writable_file,
    require_writable_folder,
)
from lrwidgets.cli.option_types import is_table, output_folder, output_table_or_folder


def require_writable_outputs(arguments: Namespace) -> None:
    """Check every output option that is given, and without --overwrite that no file is replaced.

    Parameters
    ----------
    arguments : arguments of a command, with the `outputs` that its parser lists

    Raises
    ------
    InputError
        If a file or folder cannot be written, or a file exists or is one of the inputs.
    """
    for name, kind in arguments.outputs:
        path = getattr(arguments, name)
        if path is None:
            continue
        is_folder = kind is output_folder or (kind is output_table_or_folder and not is_table(path))
        (require_writable_folder if is_folder else require_writable_file)(path)
        if not is_folder:
            refuse_to_overwrite_inputs(path, _inputs(arguments))
            if not arguments.overwrite:
                require_new_file(path)


def _inputs(arguments: Namespace) -> Iterator[Path]:
    """Yield the paths that are read: all of the arguments but outputs, alone, in lists or with an operation."""
    outputs = {name for name, _ in arguments.outputs}
    left = [value for name, value in vars(arguments).items() if name not in outputs]
    while left:
        value = left.pop()
        if isinstance(value, Path):
            yield value
        elif isinstance(value, list | tuple):
            left += value
