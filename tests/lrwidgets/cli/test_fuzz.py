"""Generated bad input: settings, specs, runs and command lines. One line, status 2, nothing written elsewhere, no hang.

In a test run each kind is tried some dozens of times; LRW_FUZZ=N tries each N times,
and LRW_FUZZ_SECONDS=S each for S seconds.
"""

import json
import shutil
import string
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrcore.errors import InputError
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.verification import verify_run
from lrcore.results.zarr_store import Store
from lrwidgets.cli._main import main
from lrwidgets.cli.arguments import COMMANDS
from lrwidgets.session.session import Session
from lrwidgets.text.errors import error_message
from lrwidgets.text.parameters import DEFAULT_SPEC, changes_from_text, changes_from_toml, edit_spec
from tests.fakes import FakeEngine
from tests.fuzzing import fuzz_examples
from tests.lrwidgets.conftest import Files

NUMBERS = st.one_of(
    st.floats(), st.integers(), st.sampled_from([0, -1, 1e308, 2**70, "nan", "inf", "-inf", "1e999", "0x10", "١"])
)
TEXT = (
    st.text(max_size=30) | st.text(string.printable, max_size=30) | st.sampled_from(["", "../..", "/", "~", "\0", "%s"])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(list(RefineSpec.model_fields)) | TEXT


def one_line(message: str) -> None:
    assert message
    assert len(message.splitlines()) == 1, message


@pytest.fixture(scope="module")
def files(kept: Files) -> Files:
    return kept


@pytest.fixture(scope="module")
def whole_run(files: Files) -> Path:
    """A run of three steps, to be copied and spoilt."""
    path = files.folder.parent / "whole.zarr"
    assert main(files.refine(path, "--iterations", "2"), engine=FakeEngine()) == 0
    return path


@fuzz_examples(250)
@given(changes=st.dictionaries(NAMES, JSON, min_size=1, max_size=3))
def test_settings_of_any_kind(changes: dict[str, object]) -> None:
    """What a widget, a script or a notebook may set: refused in a line, or a spec that holds to its bounds."""
    try:
        spec = edit_spec(DEFAULT_SPEC, changes)
    except InputError as error:
        one_line(error_message(error))
        return
    assert RefineSpec.model_validate_json(spec.model_dump_json()) == spec


def test_fields_that_do_not_go_together() -> None:
    """Found by generated spec files: a refusal that is of no single field."""
    with pytest.raises(InputError, match=r"dynamic_mask_far_A = 0: dynamic_mask_far_A must not be less than"):
        edit_spec(DEFAULT_SPEC, changes_from_text(["dynamic_mask_far_A=0"]))


@fuzz_examples(150)
@given(texts=st.lists(TEXT | st.builds("{}={}".format, NAMES, NUMBERS | TEXT), min_size=1, max_size=3))
def test_settings_as_text(texts: list[str]) -> None:
    try:
        edit_spec(DEFAULT_SPEC, changes_from_text(texts))
    except InputError as error:
        one_line(error_message(error))


@fuzz_examples(100)
@given(content=st.binary(max_size=60) | st.builds("{} = {}".format, NAMES, NUMBERS | TEXT).map(str.encode))
def test_spec_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_bytes(content)
    try:
        changes_from_toml(tmp_path / "spec.toml")
    except InputError as error:
        one_line(error_message(error))
        named = "spec.toml" in str(error)
    else:
        named = True
    assert named


def spoilt(copy: Path, where: int, how: str, value: object) -> None:
    """Change a file of a run: cut, flipped, emptied, removed, or an attribute of a group replaced."""
    found = sorted(path for path in copy.rglob("*") if path.is_file())
    if how == "attribute":
        found = [path for path in found if path.name == "zarr.json" and b'"attributes"' in path.read_bytes()]
        path = found[where % len(found)]
        content = json.loads(path.read_text())
        names = sorted(content["attributes"]) or ["format"]
        content["attributes"][names[where // 7 % len(names)]] = value
        path.write_text(json.dumps(content))
        return
    path = found[where % len(found)]
    content_bytes = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content_bytes[: where // 3 % (len(content_bytes) + 1)])
    elif how == "flipped" and content_bytes:
        at = where // 3 % len(content_bytes)
        path.write_bytes(content_bytes[:at] + bytes([content_bytes[at] ^ (1 + where % 255)]) + content_bytes[at + 1 :])
    elif how == "noise":
        path.write_bytes(repr(value).encode(errors="replace"))


@fuzz_examples(20)
@given(
    where=st.integers(0, 10**6), how=st.sampled_from(["attribute", "attribute", "cut", "flipped", "noise", "gone"]),
    value=JSON,
)  # fmt: skip
def test_runs(where: int, how: str, value: object, whole_run: Path, files: Files) -> None:
    """Opened, verified and told of: a sound part, or a line; and nothing beside the copy is touched."""
    copy = files.folder.parent / "copy.zarr"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole_run, copy)
    spoilt(copy, where, how, value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for look in (
            lambda: Store.open(copy, write=False),
            lambda: verify_run(copy),
            lambda: Session.open(copy).close(),
        ):
            try:
                look()
            except InputError as error:
                one_line(error_message(error))
        for one in caught:
            one_line(" ".join(str(one.message).split()))


@pytest.fixture
def workplace(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only one in which anything may be written, and in which everything is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUNNABLE = sorted(set(COMMANDS) - {"napari", "bench", "demo", "refine"})
WORDS = st.sampled_from(
    [
        "IN.star",
        "MASK.mrc",
        "HALF.mrc",
        "RUN.zarr",
        "missing.star",
        ".",
        "--json",
        "--out",
        "out.star",
        "out.mrc",
        "out",
        "--mask",
        "--half-maps",
        "--symmetry",
        "D2",
        "C999999999",
        "--box",
        "--iteration",
        "-1",
        "1e9",
        "--apix",
        "nan",
        "--threads",
        "0",
        "--half",
        "3",
        "--point",
        "1, 2, 3 px",
        "--threshold",
        "--sphere",
        "--plot",
        "--spec",
        "\0",
        "--",
        "--distance",
        "--max-angle-sd",
        "--star",
        "--cs",
        "--maps",
        "--netcdf",
        "--back",
        "--help",
        "é\u202e",
        "%n",
    ]
)


@fuzz_examples(60)
@given(command=st.sampled_from(RUNNABLE), words=st.lists(WORDS | TEXT, max_size=6))
def test_command_lines(
    command: str, words: list[str], workplace: Path, files: Files, whole_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"IN.star": files.star, "MASK.mrc": files.mask, "HALF.mrc": files.halves[0], "RUN.zarr": whole_run}
    argv = [command, *(str(names.get(word, word)) for word in words)]
    if any(word.startswith(("/", "..", "~")) for word in words):
        return  # a person may name any place; what is tried here is that no other is written
    before = snapshot(files.folder.parent)
    try:
        status = main(argv)
    except SystemExit as stop:  # --help and --version
        status = int(stop.code or 0)
    out, error = capsys.readouterr()
    assert status in (0, 2), (argv, error)
    assert "Traceback" not in out + error
    if status == 2:
        one_line(error.strip().splitlines()[-1])
        assert error.splitlines()[-1].startswith("error: ")
    assert snapshot(files.folder.parent) == before, argv


@fuzz_examples(20)
@given(words=st.lists(WORDS | st.builds("--set={}={}".format, NAMES, NUMBERS | TEXT) | TEXT, max_size=4))
def test_refinements(words: list[str], workplace: Path, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    if any(word.startswith(("/", "..", "~")) for word in words):
        return
    before = snapshot(files.folder.parent)
    shutil.rmtree(workplace / "run.zarr", ignore_errors=True)
    argv = [*files.refine(workplace / "run.zarr", "--iterations", "1"), *words]
    try:
        status = main(argv, engine=FakeEngine())
    except SystemExit as stop:
        status = int(stop.code or 0)
    error = capsys.readouterr().err
    assert status in (0, 2), (argv, error)
    assert snapshot(files.folder.parent) == before, argv


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all files below a folder but those of copied runs."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "copy.zarr" not in path.parts
    }


def test_the_ruler(tmp_path: Path) -> None:
    """A changed file in place is seen."""
    (tmp_path / "a").write_text("1")
    before = snapshot(tmp_path)
    (tmp_path / "a").write_text("22")
    assert snapshot(tmp_path) != before
