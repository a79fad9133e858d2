"""The one exception a person causes: unusable input, told in one line with its remedy."""


class InputError(ValueError):
    """Unusable input. The message names the file, the field or row, and what to do; it is one line."""
