"""Say in a panel's terms what a message says in those of the command line: labels in place of names and options."""

import re

from lrwidgets.text.fields import parameter_fields

OPTIONS = {
    "--apix": "Voxel size",
    "--backend": "Backend",
    "--half-maps": "Half maps",
    "--images DIR": "Images folder",
    "--images": "Images folder",
    "--mask": "Mask",
    "--out": "New run",
    "--resplit": "New half sets",
    "--resume": "Open run",
    "--subset": "Particles to use",
    "--threads": "Threads",
}
"""Option of the command line → label of the field or button that does the same."""
COMMAND = re.compile(r"lrwidgets [a-z]+ [^)]*")
"""A command to type in a shell, which stays as it is."""
_BY_LENGTH = "|".join(map(re.escape, sorted(OPTIONS, key=len, reverse=True)))
_OPTION = re.compile(f"({_BY_LENGTH})(?![-\\w])")
_LABELS = {field.name: field.label for field in parameter_fields()}
_NAMES = "|".join(sorted(_LABELS, key=len, reverse=True))
_PARAMETER = re.compile(rf"(?<![\w./\\-])({_NAMES})(?![\w/\\-]|\.\w)(\s?=\s?)?")


def in_interface_terms(message: str) -> str:
    """Return a message with the labels of a panel in place of option names and parameter names."""
    parts, at = list[str](), 0
    for command in COMMAND.finditer(message):
        parts += [_with_labels(message[at : command.start()]), command.group()]
        at = command.end()
    return "".join([*parts, _with_labels(message[at:])])


def _with_labels(text: str) -> str:
    return _PARAMETER.sub(_label, _OPTION.sub(lambda found: f"“{OPTIONS[found[1]]}”", text))


def _label(found: re.Match[str]) -> str:
    """Return the label of a parameter. A name that is an English word too counts only before a value."""
    name, equals = found[1], found[2]
    if not equals and "_" not in name:
        return found.group()
    return _LABELS[name] + (" = " if equals else "")
