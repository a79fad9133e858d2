"""compare --local: the local resolution of both steps, the same as lrwidgets locres measures of their maps."""

import json
import re
from pathlib import Path

import pytest

from lrcore.simulation.data_set import simulate_flexible_particle
from lrwidgets.cli._main import main


def test_both_steps_are_told_as_locres_measures_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_flexible_particle(tmp_path, n=120, box=40, pixel_size_A=4.6, snr=0.3)
    run, mask = tmp_path / "run.zarr", tmp_path / "mask_b.mrc"
    argv = ["refine", str(tmp_path / "particles.star"), "--mask", str(mask), "--iterations", "1"]
    assert main([*argv, "--backend", "cpu", "--out", str(run)]) == 0
    assert main(["export", str(run), "--maps", str(tmp_path / "maps")]) == 0
    capsys.readouterr()
    compare = ["compare", str(run), "0", "1", "--held-out", "0"]
    assert main([*compare, "--local"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.search(
        r"local resolution inside the mask, quartiles: [\d., ]+ → [\d., ]+ Å \(windows of \d+ and \d+", line
    )
    assert main([*compare, "--local", "--json"]) == 0
    before, after = json.loads(capsys.readouterr().out)["local_resolution_quartiles_A"]
    assert after[1] < before[1]
    halves = [str(tmp_path / "maps" / f"half{half}.mrc") for half in (1, 2)]
    assert main(["locres", *halves, "--mask", str(mask), "--out", str(tmp_path / "l.mrc"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert after[::2] == pytest.approx(told["quartiles_A"], abs=0.01)
    assert main([*compare, "--json"]) == 0
    assert "local_resolution_quartiles_A" not in json.loads(capsys.readouterr().out)
