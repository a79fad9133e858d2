"""Define the exception for unusable input, and what to do when the system refuses to write."""

import errno


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


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = {
    errno.EACCES: "check the permissions of the folder, or choose another place",
    errno.EPERM: "check the permissions of the folder, or choose another place",
    errno.EROFS: "this file system can only be read, choose another place",
    errno.EISDIR: "give the name of a file, not of a folder",
    errno.ENOTDIR: "a file is in the place of a folder, choose another place",
    errno.EEXIST: "it exists already, choose another place",
    errno.ENOTEMPTY: "it exists already, choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "close other files, or raise the limit (ulimit -n)",
}
"""What to do when the system refuses to write, by the number of the error."""


def write_remedy(
    error: OSError, full: str = "free some space or choose another place", other: str = "choose another place"
) -> str:
    """Return what to do when the system refuses to write.

    Parameters
    ----------
    error
        The refusal.
    full
        What to do if the disk, the quota or the largest file size is exhausted.
    other
        What to do if nothing better is known.

    Returns
    -------
    str
        The remedy, without a capital or a full stop.
    """
    return full if error.errno in _FULL else _REMEDIES.get(error.errno or 0, other)
