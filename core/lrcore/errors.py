"""The one exception a person causes: unusable input, told in one line with its remedy."""


class InputError(ValueError):
    """Unusable input. The message names the file, the field or row, and what to do; it is one line.

    What a file holds may be quoted in it: characters that end a line or steer a terminal are spelled out.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))
