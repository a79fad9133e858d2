"""Which backend is picked, and what is said when there is no GPU to work on."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lrcore.compute.backend import get_backend
from lrcore.errors import InputError


def test_without_cupy_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(InputError, match=r"CuPy is not installed: pip install 'lrwidgets\[gpu\]'"):
        get_backend("cuda")


def test_without_a_gpu_the_message_says_so(monkeypatch):
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no NVIDIA GPU"):
        get_backend("cuda")
    monkeypatch.setattr("lrcore.compute.backend._has_driver", lambda: True)
    with pytest.warns(RuntimeWarning, match="working on the CPU"):
        assert get_backend("auto").name == "cpu"


def test_without_cudas_libraries_the_message_says_how_to_get_them(monkeypatch):
    cupy = pytest.importorskip("cupy")

    def missing():
        raise RuntimeError("no libcufft\nnor another")

    monkeypatch.setattr(cupy.cuda, "is_available", lambda: True)
    monkeypatch.setitem(vars(cupy.cuda), "cufft", SimpleNamespace(getVersion=missing))
    with pytest.raises(InputError, match=r"no CUDA libraries: pip install 'lrwidgets\[gpu\]' \(no libcufft\)$"):
        get_backend("cuda")


def test_auto_takes_the_gpu_where_there_is_one():
    try:
        name = get_backend("cuda").name
    except InputError:
        name = "cpu"
    assert get_backend("auto").name == name


def test_unknown_backends_are_refused():
    with pytest.raises(InputError, match="'gpu' is unknown"):
        get_backend("gpu")


def test_arrays_of_the_host_stay_what_they_are():
    backend, array = get_backend("reference"), np.ones(3)
    assert backend.to_device(array) is array
    assert backend.to_host(array) is array
