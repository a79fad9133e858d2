"""Find the passthrough files of a CryoSPARC job, which hold the slots that the job did not change."""

import re
from pathlib import Path

PASSTHROUGH = re.compile(r"passthrough_?")
JOB = re.compile(r"J\d+")
PREFIX = re.compile(r"^(?:cryosparc_)?(?:P\d+_)?(?:J\d+_)?(?:\d{3,}_)?")
"""What stands before the name of an output: project, job and iteration."""


def is_passthrough(path: Path) -> bool:
    """Return whether a file is a passthrough file, by its name."""
    return PASSTHROUGH.search(path.name) is not None


def passthrough_files(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the passthrough files in the folder of a .cs: those of its own output, by their names, and the others.

    Parameters
    ----------
    path : .cs file of a job, such as J90_particles_cluster_1.cs

    Returns
    -------
    own : list of paths
        Such as J90_passthrough_particles_cluster_1.cs.
    others : list of paths
        Passthrough files of the same job for another output, or under a name that is not CryoSPARC's.
    """
    files = [file for file in sorted(path.parent.glob("*passthrough*.cs")) if file != path and _same_job(path, file)]
    own = [file for file in files if _output_name(file) == _output_name(path)]
    return own, [file for file in files if file not in own]


def _output_name(path: Path) -> str:
    """Return the name of the output: particles_cluster_1 of J90_passthrough_particles_cluster_1.cs."""
    return PREFIX.sub("", PASSTHROUGH.sub("", path.stem))


def _same_job(path: Path, file: Path) -> bool:
    jobs = [found.group() for found in (JOB.search(one.name) for one in (path, file)) if found]
    return len(set(jobs)) < 2
