"""What went wrong, as one line for a person: the same words on the command line and in a panel."""

from lrcore.errors import InputError

DEBUG_VARIABLE = "LRW_DEBUG"
"""With this variable set, an internal error shows its traceback."""


def error_message(error: BaseException) -> str:
    """One line. Unusable input is told as it is; so is what the system refuses, with what to do about it."""
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error}): use fewer particles (--subset) or a smaller box"
    elif isinstance(error, OSError):
        text = f"{error.filename or 'system'}: {error.strerror or error}: check the file and its folder"
    else:
        text = f"internal error, {type(error).__name__}: {error} (set {DEBUG_VARIABLE}=1 to see where)"
    return " ".join(text.split())


def is_internal(error: BaseException) -> bool:
    """Whether it is our mistake, and nothing that a person can mend."""
    return not isinstance(error, InputError | OSError | MemoryError)
