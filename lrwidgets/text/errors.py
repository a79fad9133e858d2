"""Describe an error in one line, the same on the command line and in a panel."""

from lrcore.errors import InputError, write_remedy

DEBUG_VARIABLE = "LRW_DEBUG"
"""With this variable set, an internal error shows its traceback."""


def error_message(error: BaseException) -> str:
    """Return an error as one line that says what to do.

    Parameters
    ----------
    error : an InputError, whose own text is used; an error of the system; or an internal error

    Returns
    -------
    str
        The message, without line breaks.
    """
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error}): use fewer particles (--subset) or a smaller box"
    elif isinstance(error, OSError):
        remedy = write_remedy(error, other="check the file and its folder")
        text = f"{error.filename or 'system'}: {error.strerror or error}: {remedy}"
    else:
        text = f"internal error, {type(error).__name__}: {error} (set {DEBUG_VARIABLE}=1 to see where)"
    return " ".join(text.split())


def is_internal(error: BaseException) -> bool:
    """Return whether an error is a bug of this program, which the user cannot correct."""
    return not isinstance(error, InputError | OSError | MemoryError)
