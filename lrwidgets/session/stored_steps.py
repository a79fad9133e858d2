"""Read the stored steps of a run: results, comparison, pose uncertainty, export.

None of these methods changes the run's course, and all may be called on any thread while the run goes on.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import xarray as xr

from lrcore.analysis.comparison import Comparison, compare_steps
from lrcore.compute.backend import Backend
from lrcore.errors import InputError
from lrcore.records import Progress, Step
from lrcore.refinement.job import Job
from lrcore.refinement.whole_maps import has_whole_maps
from lrcore.results.store import StepNode, StepStore
from lrwidgets.export import step_files
from lrwidgets.session.engine import Engine
from lrwidgets.session.pose_uncertainty import stored_or_computed
from lrwidgets.session.state import RunState


class StoredSteps:
    """Base of `Session`: access to the steps that its store holds. `Session.__init__` sets the attributes."""

    _job: Job
    _out: Path | None
    _store: StepStore | None
    _state: RunState
    _engine: Engine
    _make_backend: Callable[[], Backend]

    def results(self, node: str | None = None) -> xr.DataTree:
        """Return the results along the path from the start to a step.

        Parameters
        ----------
        node : id of the step; the present step by default

        Returns
        -------
        xarray.DataTree
            Groups of the written schema (docs/results.md): /fsc, /particles, /volumes, /mask and others.

        Raises
        ------
        InputError
            If there is no such step, or no step yet.
        """
        return self._require_store().results(node or self._state.node)

    def path(self, node: str | None = None) -> tuple[StepNode, ...]:
        """Return the nodes from the start to a step.

        Parameters
        ----------
        node : id of the step; the present step by default

        Returns
        -------
        tuple[StepNode, ...]
            The nodes in order, the start first; empty before the start.

        Raises
        ------
        InputError
            If there is no such step, or no step yet.
        """
        last = node or self._state.node
        return self._require_store().path_to(last) if last else ()

    def load_step(self, node: str | None = None) -> tuple[StepNode, Step]:
        """Load a step of the tree.

        Parameters
        ----------
        node : id of the step; the present step by default

        Returns
        -------
        tuple[StepNode, Step]
            The node (id, parent, iteration, spec, mask digest), and the step (poses, half maps, FSC, history).

        Raises
        ------
        InputError
            If there is no such step, or no step yet.
        """
        store = self._require_store()
        loaded = store.node(node or self._state.node)
        return loaded, store.load(loaded.id)

    def compare(self, a: str, b: str | None = None, images: int = 2000) -> Comparison:
        """Compare two steps: FSC, poses, maps, settings, and which of them predicts held-out images better.

        Parameters
        ----------
        a : id of the first step
        b : id of the second step; the present step by default
        images : number of held-out images that the verdict is based on; 0 for no verdict

        Returns
        -------
        Comparison
            Comparison of step b with step a. Without images on disk it has no verdict, and a warning says so.

        Raises
        ------
        InputError
            If there is no such step.
        """
        steps = [self.load_step(node) for node in (a, b)]
        first, second = ((node.id, self.job_of(node), step) for node, step in steps)
        scores = None
        if images:
            _, start = self.load_step(self._require_store().path_to(second[0])[0].id)
            try:
                scores = self._engine.held_out(start, first[1:], second[1:], self._make_backend(), images)
            except InputError as error:
                warnings.warn(f"{error}; without images there is no verdict on which step is better", stacklevel=2)
        return compare_steps(first, second, scores)

    def uncertainty(self, node: str | None = None, report: Callable[[Progress], None] = lambda _: None) -> xr.Dataset:
        """Return the pose uncertainty of a step: the group /uncertainty of the results.

        It is estimated by drawing poses from their posterior under the other half set's map, which takes as long as a
        few iterations. The run keeps the result unless it is open for reading only.

        Parameters
        ----------
        node : id of the step; the present step by default
        report : called with each Progress event

        Returns
        -------
        xarray.Dataset
            SDs in degrees and Å and covariance of each particle, as docs/results.md describes them.

        Raises
        ------
        InputError
            If the step is the start, whose poses were not searched, or if there is no such step.
        """
        chosen = self._require_store().node(node or self._state.node)
        return stored_or_computed(self._require_store(), chosen, self.job_of(chosen), self._make_backend(), report)

    def job_of(self, node: StepNode) -> Job:
        """Return the job that a step was run with.

        Parameters
        ----------
        node : a node of the run's tree

        Returns
        -------
        Job
            The session's job with the spec and the mask of that step.
        """
        return replace(self._job, spec=node.spec, mask=self._require_store().mask(node.id) or self._job.mask)

    def export(
        self,
        *,
        node: str | None = None,
        report: Callable[[str], None] = lambda _: None,
        **targets: Unpack[step_files.ExportTargets],
    ) -> list[Path]:
        """Write a step as files for other programs.

        Parameters
        ----------
        node : id of the step; the present step by default
        report : called with a sentence about what was written, such as the B-factor of the sharpened map
        **targets
            What to write, with its path; folders are made if they do not exist:

            * star, cs: file of the particles with the step's poses, for RELION or CryoSPARC
            * maps: folder for half1.mrc, half2.mrc, map.mrc, sharpened.mrc, map_whole.mrc and mask.mrc, and the half
              maps of the body alone, body_half1.mrc and body_half2.mrc
            * deposit: folder for what EMDB asks for: half maps, sharpened map, mask, fsc.xml, README.md
            * fsc_xml: file of the FSC curve in EMDB's format
            * fsc_star: file of the FSC curves, as RELION's postprocess.star
            * chimerax: folder for maps and a scene
            * netcdf: file of all results

        Returns
        -------
        list[Path]
            The paths that were written.

        Raises
        ------
        InputError
            If a target is unknown or cannot be written, or if there is no such step.
        """
        chosen, step = self.load_step(node)
        if step_files.needs_whole_maps(targets):
            step = self._with_whole_maps(chosen, step)

        def earlier_steps() -> tuple[Step, ...]:
            ids = [node.id for node in self._require_store().path_to(chosen.id)[:-1]]
            return tuple(self.load_step(name)[1] for name in dict.fromkeys([*ids[:1], *ids[-1:]]))

        uncertainty = self._require_store().uncertainty(chosen.id)
        job = self.job_of(chosen)
        tree = functools.partial(self.results, chosen.id)
        return step_files.write_step(targets, job, step, earlier_steps, tree, uncertainty, report)

    def _with_whole_maps(self, node: StepNode, step: Step) -> Step:
        """Return a step with its whole half maps, which are made and stored if it has none.

        Where the images are not at hand, its maps are those of the start with the refined body in them.
        """
        if has_whole_maps(step):
            return step
        try:
            *_, made = self._engine.make_whole_maps(self.job_of(node), step, self._make_backend())
        except InputError as error:
            warnings.warn(f"{error}; without images the maps outside the mask are those of the start", stacklevel=3)
            return step
        assert isinstance(made, Step)
        store = self._require_store()
        if not store.read_only:
            store.store_whole_maps(node.id, made)
        return made

    def _require_store(self) -> StepStore:
        """Return the store. Raises InputError before the first step of a run that is to be written."""
        if self._store is None:
            raise InputError(f"{self._out}: has no step yet: run one first")
        return self._store
