"""Which findings are left beside which."""

import pytest

from lrcore.analysis.advice.finding import Finding
from lrcore.analysis.advice.redundancy import MOTION, REDUNDANCIES, Redundancy, drop_redundant
from lrwidgets.plots.catalogue import FIGURE_OF_FINDING

MISLEADING = {"off_centre"}
"""Silenced by what it silences itself, which comes first."""


def left(*names: str) -> list[str]:
    return [one.name for one in drop_redundant(Finding(name, "", "", 0.0, 0.0) for name in names)]


@pytest.mark.parametrize("silence", REDUNDANCIES, ids=[silence.why for silence in REDUNDANCIES])
def test_each_silences_what_it_says_and_nothing_else(silence: Redundancy) -> None:
    others = sorted(set(FIGURE_OF_FINDING) - {name for one in REDUNDANCIES for name in one.present})
    for reason in sorted(silence.present):
        for untold in sorted(silence.dropped - MISLEADING):
            assert left(untold, reason) == [reason]
        expected = {name for one in REDUNDANCIES if reason in one.present for name in one.dropped}
        assert left(reason, *others) == [reason, *(name for name in others if name not in expected)]


def test_only_findings_that_there_are() -> None:
    for silence in REDUNDANCIES:
        assert silence.present | silence.dropped <= set(FIGURE_OF_FINDING)
        assert not silence.present & silence.dropped


def test_what_is_not_told_silences_nothing() -> None:
    assert left("mask_still", "fulcrum_off") == ["mask_still"]
    assert left("drift_of_shifts", "mask_still", "fulcrum_off") == ["drift_of_shifts", "fulcrum_off"]
    assert left("overfitting", "off_centre", "mask_edge") == ["overfitting", "mask_edge"]


def test_without_a_reason_all_are_told_in_their_order() -> None:
    names = [*sorted(MOTION - {"off_centre"}), "mask_edge", "at_shift_extent"]
    assert left(*names) == names
    assert left() == []
