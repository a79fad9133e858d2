"""A run verified as a whole: every step and every mask by its checksum, and what interrupted writes have left."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from lrcore.results.zarr_store import Store


@dataclass(frozen=True)
class RunVerification:
    """What was found. whole: names of the steps that are as they were written. damaged: step or mask → what is wrong.

    usable: names of whole steps whose parents are whole, too. left: what interrupted writes have left.
    """

    whole: tuple[str, ...]
    usable: tuple[str, ...]
    damaged: dict[str, str]
    left: tuple[str, ...]


def verify_run(path: str | Path) -> RunVerification:
    """Look at every file of a run, which is not changed. Raises InputError if the path is no run."""
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each step is told of below
        store = Store.open(path, write=False)
    told = {folder.name: store.damage(folder) for folder in store.folders()}
    damaged = {name: what for name, what in told.items() if what}
    others = [*store.damaged_masks(), *store.damaged_uncertainties()]
    damaged |= {str(one.relative_to(path)): "is damaged (its checksum differs)" for one in others}
    usable: list[str] = []
    for node in store.tree():
        if not told.get(node.id) and (node.parent is None or node.parent in usable):
            usable.append(node.id)
    beside = sorted(path.parent.glob(f".{path.name}.*.partial"))
    left = [str(one) for one in (path / ".partial", *beside) if one.exists()]
    return RunVerification(tuple(name for name in told if not told[name]), tuple(usable), damaged, tuple(left))
