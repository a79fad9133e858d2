"""The table of all settings in docs/validation.md says what the code does."""

from pathlib import Path
from typing import Any

import pytest

from lrcore.errors import InputError
from lrcore.refinement.parameter_effects import acts_from, require_effect, unmet_need
from lrcore.refinement.parameters import RefineSpec
from lrcore.results.store import StepNode
from lrwidgets.session.sweep import sweep_refusal

TIMES = {
    "first iteration": "before iteration 1",
    "next iteration": "always, for the next iteration",
    "second iteration": "always, for the next iteration from 2 on",
    "end of the run": "always, for the end of the run",
}
"""When a field acts → when it can be edited, as the table has it."""


def table(root: Path) -> dict[str, list[str]]:
    """The other cells of each row, by field."""
    _, _, section = (root / "docs" / "validation.md").read_text().partition("## Every setting\n")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]
    return {name.strip("`"): cells for name, *cells in rows}


def text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def needs_of(name: str) -> dict[str, tuple[Any, ...]]:
    extra = RefineSpec.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    needs: Any = extra["needs"]
    return dict(needs)


def test_it_has_every_field_in_the_order_of_the_spec(root: Path) -> None:
    assert list(table(root)) == list(RefineSpec.model_fields)


@pytest.mark.parametrize("name", RefineSpec.model_fields)
def test_a_row_says_what_the_code_does(root: Path, name: str) -> None:
    changes, when, needs, swept, tests = table(root)[name]
    assert changes
    assert "tests/" in tests or tests == "same"
    assert when == TIMES[acts_from(name)]
    wanted = {f"`{other}={'` or `'.join(map(text, values))}`" for other, values in needs_of(name).items()}
    assert needs == ", ".join(wanted)
    met = RefineSpec.model_validate({other: values[0] for other, values in needs_of(name).items()})
    assert unmet_need(name, met) == ""
    refusals = [
        sweep_refusal(name, [spec], StepNode("", None, 1, spec, ""))
        for spec in (met, met.model_copy(update={name: True}))
    ]
    sweepable = {(True, True): "no", (False, False): "yes", (True, False): "after an iteration with it"}
    assert swept == sweepable[bool(refusals[0]), bool(refusals[1])]


@pytest.mark.parametrize("name", RefineSpec.model_fields)
def test_only_fields_of_the_first_iteration_are_refused_later(name: str) -> None:
    needs = {other: values[0] for other, values in needs_of(name).items()}
    before = RefineSpec.model_validate(needs)
    after = before.model_copy(update={name: "another"})
    require_effect(before, after)
    if acts_from(name) != "first iteration":
        require_effect(before, after, iteration=1)
        return
    with pytest.raises(InputError, match="first iteration only"):
        require_effect(before, after, iteration=1)
