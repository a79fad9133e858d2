"""What is said before the kernels are compiled."""

from pathlib import Path

import pytest

from lrcore.compute.backend import LAST_COMPILED, compilation_notice


def test_compilation_is_announced_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert "compiling the kernels, once per machine: about" in (compilation_notice("cpu") or "")
    index = tmp_path / "local_search_0" / f"cpu._{LAST_COMPILED}-272.py311.nbi"
    index.parent.mkdir()
    index.touch()
    assert compilation_notice("cpu") is None
    index.unlink()
    assert compilation_notice("cuda") is None


def test_the_kernel_that_is_looked_for_is_compiled() -> None:
    from lrcore.kernels.local_search import cpu

    assert hasattr(cpu, f"_{LAST_COMPILED}")
