"""Ask before something is lost: the same request a second time confirms it."""

from collections.abc import Collection, Hashable, Iterable
from pathlib import Path


class Confirmation:
    """Remembers the last request that was not carried out."""

    def __init__(self) -> None:
        self._asked: Hashable = None

    def is_given(self, request: Hashable) -> bool:
        """Return whether this request repeats the last one, which is then forgotten; if not, remember it."""
        self._asked, again = (None, True) if request == self._asked else (request, False)
        return again

    def may_replace(self, existing: Collection[Path], request: Hashable) -> bool:
        """Return whether nothing exists that the request would replace, or the request is repeated."""
        if not existing:
            self._asked = None
        return not existing or self.is_given(request)


def existing_targets(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files that exist, and the folders that are not empty."""
    return tuple(path for path in paths if path.exists() and (path.is_file() or any(path.iterdir())))


def replace_question(paths: Iterable[Path], button: str) -> str:
    """Return the line that asks whether files may be replaced. button: the one to press again."""
    names = [str(path) for path in paths]
    verb = "exists" if len(names) == 1 else "exist"
    return f"{', '.join(names)} {verb}: press {button} again to replace, or choose another name"
