"""Types of the options of commands: numbers, operations, and paths that are written to."""

import argparse
import math
from pathlib import Path

# Paths that a command writes to: every option that names one has one of these types.


def output_file(text: str) -> Path:
    """Return the path of a file to write."""
    return Path(text)


def output_folder(text: str) -> Path:
    """Return the path of a folder to write into."""
    return Path(text)


def output_table_or_folder(text: str) -> Path:
    """Return the path of a particle file to write, or of a folder to write one into."""
    return Path(text)


def is_table(path: Path) -> bool:
    """Return whether a path names a particle file."""
    return path.suffix.lower() in (".star", ".cs")


def output_options(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options of a command that name what it writes."""
    types = (output_file, output_folder, output_table_or_folder)
    return [action for action in command._actions if action.type in types]


# Values.


def finite_number(text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def positive_number(text: str) -> float:
    """Return a number above 0."""
    value = finite_number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def nonnegative_number(text: str) -> float:
    """Return a number of at least 0."""
    value = finite_number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value


def auto_or_number(text: str) -> float | str:
    """Return "auto" or a finite number."""
    return text if text == "auto" else finite_number(text)


def positive_int(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def nonnegative_int(text: str) -> int:
    """Return a whole number of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def all_or_positive_int(text: str) -> int | None:
    """Return None for "all", or a whole number above 0."""
    return None if text == "all" else positive_int(text)


def mask_operation(operation: str, text: str) -> tuple[str, Path]:
    """Return an operation and the file of its mask."""
    return operation, Path(text)
