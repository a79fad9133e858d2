"""A whole iteration on the device finds what it finds on the CPU."""

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.imaging.rotations import rotation_angle_deg
from lrcore.io import read_volume
from lrcore.kernels import gpu
from lrcore.records import Step
from lrcore.refinement.iteration import run_iteration
from lrcore.refinement.job import Job
from lrcore.refinement.parameters import RefineSpec
from lrcore.refinement.reconstruction import reconstruct
from lrcore.refinement.start import start
from lrcore.simulation.data_set import simulate_flexible_particle
from tests.lrcore.kernels.host_device import COMPILER, has_gpu, host_backend

GPU = has_gpu()


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    count = 600 if GPU else 24
    data = simulate_flexible_particle(tmp_path_factory.mktemp("data"), n=count, box=33, pixel_size_A=5.4, snr=0.5)
    return Job(data.particles, read_volume(data.map("mask_b")), RefineSpec())


def iterated(job, backend):
    """The start and two iterations, the second of which knows most poses already."""
    *_, first = start(job, backend)
    steps = [first]
    for _ in range(2):
        *_, step = run_iteration(job, first, steps[-1], backend)
        assert isinstance(step, Step)
        steps.append(step)
    return steps


def same(found, expected):
    """On 99 % of particles to 0.01° and 0.01 Å; maps and noise to 1e-3."""
    for here, there in zip(found, expected, strict=True):
        a, b = here.expectation, there.expectation
        angle = rotation_angle_deg(a.poses.rotation, b.poses.rotation)
        shift = np.linalg.norm(a.poses.origin_A - b.poses.origin_A, axis=1)
        assert np.mean((angle < 0.01) & (shift < 0.01)) >= 0.99
        assert np.allclose(here.noise, there.noise, rtol=1e-3)
        for half in (1, 2):
            ours, theirs = here.half_maps.half(half).data, there.half_maps.half(half).data
            assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()
    moved = rotation_angle_deg(expected[-1].expectation.poses.rotation, expected[0].expectation.poses.rotation)
    assert np.median(moved) > 1


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no g++ to run the CUDA sources on the host with")
def test_on_the_host(job, tmp_path, monkeypatch):
    """Also that no array of the host is taken for one of the device, and none is fetched unasked."""
    here, backend = host_backend(tmp_path, threads=1)
    monkeypatch.setattr(gpu, "current_device", lambda: here)
    same(iterated(job, backend), iterated(job, get_backend("cpu", 1)))


@pytest.mark.skipif(COMPILER is None, reason="no g++ to run the CUDA sources on the host with")
def test_an_ewald_sphere_on_the_host(job, tmp_path, monkeypatch):
    here, backend = host_backend(tmp_path, threads=1)
    monkeypatch.setattr(gpu, "current_device", lambda: here)
    (*_, found), (*_, expected) = (
        reconstruct(job.particles, 1, "C2", one, "positive") for one in (backend, get_backend("cpu", 1))
    )
    assert np.abs(found.data - expected.data).max() < 1e-5 * np.abs(expected.data).max()


@pytest.mark.skipif(not GPU, reason="no GPU")
def test_on_the_gpu(job):
    same(iterated(job, get_backend("cuda")), iterated(job, get_backend("cpu")))
