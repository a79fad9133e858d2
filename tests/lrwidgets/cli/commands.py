"""Run a command in a test, and return what it printed."""

import json
from typing import Any

import pytest

from lrwidgets.cli._main import main

Out = pytest.CaptureFixture[str]


def run_json(capsys: pytest.CaptureFixture[str], *argv: object) -> list[dict[str, Any]]:
    """Run a command with --json, which must succeed, and return the objects that it printed."""
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0, capsys.readouterr().err
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def run_refused(capsys: pytest.CaptureFixture[str], *argv: object) -> list[str]:
    """Run a command, which must refuse with status 2, and return its lines: warnings, and one error at the end."""
    capsys.readouterr()
    assert main([*map(str, argv)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    lines = error.splitlines()
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines


def refused(capsys: Out, argv: list[str], **hooks: Any) -> str:
    """Run a command with hooks of `main`, which must refuse with status 2, and return its only line."""
    capsys.readouterr()
    assert main(argv, **hooks) == 2
    out, error = capsys.readouterr()
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert out == ""
    return error
