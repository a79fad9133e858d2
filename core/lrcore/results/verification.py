"""Verify a whole run: the checksums of all steps, what is stored beside them, and remains of writes."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from lrcore.results.zarr_store import Store


@dataclass(frozen=True)
class RunVerification:
    """Result of verifying a run.

    Attributes
    ----------
    whole : names of the steps that are as they were written
    usable : names of the whole steps whose ancestors are all whole
    damaged : name of a damaged step, or path of a damaged mask, uncertainty or whole map → problem
    left : paths of the remains of interrupted writes
    """

    whole: tuple[str, ...]
    usable: tuple[str, ...]
    damaged: dict[str, str]
    left: tuple[str, ...]


def verify_run(path: str | Path) -> RunVerification:
    """Verify every file of a run without changing it.

    Parameters
    ----------
    path : folder of the run

    Returns
    -------
    RunVerification
        Whole, usable and damaged steps, and remains of interrupted writes.

    Raises
    ------
    InputError
        If the path is not a run, or cannot be read.
    """
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged steps are listed in the result
        store = Store.open(path, write=False)
    problems = {step.stem: store.find_damage(step) for step in store.step_paths()}
    damaged = {name: problem for name, problem in problems.items() if problem}
    others = [*store.damaged_masks(), *store.damaged_companions()]
    damaged |= {str(folder.relative_to(path)): "is damaged (its checksum differs)" for folder in others}
    usable: list[str] = []
    for node in store.tree():
        if not problems.get(node.id) and (node.parent is None or node.parent in usable):
            usable.append(node.id)
    unfinished = sorted(path.parent.glob(f".{path.name}.*.partial"))
    left = [str(folder) for folder in (path / ".partial", *unfinished) if folder.exists()]
    whole = tuple(name for name, problem in problems.items() if not problem)
    return RunVerification(whole, tuple(usable), damaged, tuple(left))
