"""Every CUDA source becomes machine code for each generation of GPUs, without a GPU or a driver."""

import pytest

from lrcore.kernels import gpu

nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed: pip install '.[dev]'")

NAMES = sorted(path.parent.name for path in gpu.FOLDER.glob("*/cuda.cu"))


def compiled(source, architecture):
    program = nvrtc.createProgram(source, "kernel.cu", [], [])
    of_cupy = ("-ftz=true", "--device-as-default-execution-space")
    options = (f"--gpu-architecture={architecture}", *gpu.NVRTC_OPTIONS, *of_cupy)
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError as error:
        raise AssertionError(nvrtc.getProgramLog(program)) from error
    return nvrtc.getCUBIN(program)


def test_the_kernels_are_all_there():
    assert {"project", "backproject", "lattice_search", "local_search"} <= set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_120"])
@pytest.mark.parametrize("name", NAMES)
def test_a_source_becomes_machine_code(name, architecture):
    assert compiled(gpu.kernel_source(name), architecture)[:4] == b"\x7fELF"


def test_the_ruler():
    with pytest.raises(AssertionError, match="undefined"):
        compiled('extern "C" __global__ void broken() { nothing(); }', "sm_90")
