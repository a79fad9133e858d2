"""Data sets and whole refinements of them, made once for all tests that look at them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lrcore.compute.backend import Backend, get_backend
from lrcore.records import Step
from tests.validation.judge import SimulatedCase, load_case, refine_once


@pytest.fixture(scope="session")
def backend() -> Backend:
    return get_backend("cpu")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def two_body(test_data: Callable[[str], Path]) -> SimulatedCase:
    return load_case(test_data("two_body"))


@pytest.fixture(scope="session")
def pol2_stalk(test_data: Callable[[str], Path]) -> SimulatedCase:
    return load_case(test_data("pol2_stalk"))


@pytest.fixture(scope="session")
def two_body_run(two_body: SimulatedCase, kept: Path, backend: Backend) -> tuple[Step, Step]:
    """The start and the end of a refinement of two_body with every parameter at its default."""
    return refine_once(kept / "two_body.zarr", two_body.job(), backend)


@pytest.fixture(scope="session")
def pol2_run(pol2_stalk: SimulatedCase, kept: Path, backend: Backend) -> tuple[Step, Step]:
    """The start and the end of a refinement of pol2_stalk with every parameter at its default."""
    return refine_once(kept / "pol2_stalk.zarr", pol2_stalk.job(), backend)
