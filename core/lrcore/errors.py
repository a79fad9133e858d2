"""Define the exception for unusable input."""


class InputError(ValueError):
    """Unusable input. The message is one line that names the file, the field or row, and what to do.

    Text quoted from a file may hold control characters; they are escaped, so that they cannot break the line or control
    the terminal.

    Parameters
    ----------
    message
        The line that is shown to the user.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))
