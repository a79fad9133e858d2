"""Which findings are left beside which."""

import pytest

from lrcore.advice import Advice
from lrcore.advise_silence import MOTION, SILENCES, Silence, news
from lrwidgets.gallery import EVIDENCE

MISLEADING = {"off_centre"}
"""Silenced by what it silences itself, which comes first."""


def left(*names: str) -> list[str]:
    return [one.name for one in news(Advice(name, "", "", 0.0, 0.0) for name in names)]


@pytest.mark.parametrize("silence", SILENCES, ids=[silence.why for silence in SILENCES])
def test_each_silences_what_it_says_and_nothing_else(silence: Silence) -> None:
    others = sorted(set(EVIDENCE) - {name for one in SILENCES for name in one.found})
    for reason in sorted(silence.found):
        for untold in sorted(silence.untold - MISLEADING):
            assert left(untold, reason) == [reason]
        expected = {name for one in SILENCES if reason in one.found for name in one.untold}
        assert left(reason, *others) == [reason, *(name for name in others if name not in expected)]


def test_only_findings_that_there_are() -> None:
    for silence in SILENCES:
        assert silence.found | silence.untold <= set(EVIDENCE)
        assert not silence.found & silence.untold


def test_what_is_not_told_silences_nothing() -> None:
    assert left("mask_still", "fulcrum_off") == ["mask_still"]
    assert left("drift_of_shifts", "mask_still", "fulcrum_off") == ["drift_of_shifts", "fulcrum_off"]
    assert left("overfitting", "off_centre", "mask_edge") == ["overfitting", "mask_edge"]


def test_without_a_reason_all_are_told_in_their_order() -> None:
    names = [*sorted(MOTION - {"off_centre"}), "mask_edge", "at_shift_extent"]
    assert left(*names) == names
    assert left() == []
