"""The accuracy suite in short: every scenario, against the analytic truth, within the bounds that docs/accuracy.md states."""

from pathlib import Path

import pytest

from accuracy.scenarios import PLAYS, Play
from accuracy.suite import Outcome, play

SHORT = [(one, hz) for one in PLAYS for hz in ((1, 10) if one.name in ("square-2s", "bursts") else (1,))]


@pytest.mark.parametrize(("one", "hz"), SHORT, ids=[f"{one.name}-{hz}hz" for one, hz in SHORT])
def test_a_recording_tells_the_truth_within_its_bounds(one: Play, hz: int, stand_in_driver: Path) -> None:
    """Energy within 0.5 %, busy seconds of phases over 1 s within 1 %, ends of work within an update period, shares within three sigma."""
    assert list(play(one, hz, stand_in_driver).misses()) == []


def test_a_wrong_figure_would_miss_its_bound(stand_in_driver: Path) -> None:
    """The bounds can fail: the same outcome with figures that are off misses each of them."""
    by_name = {one.name: one for one in PLAYS}
    outcome = play(by_name["square-5s"], 1, stand_in_driver)

    def wrong(**changes: float) -> list[str]:
        return list(Outcome(outcome.play, 1, {**outcome.found, **changes}, {}).misses())

    assert wrong() == []
    assert len(wrong(energy_j=outcome.found["energy_j"] * 1.006)) == 1
    assert len(wrong(busy_s=outcome.found["busy_s"] * 0.98)) == 1
    assert len(wrong(edge_s=0.3)) == 1
    shared = play(by_name["two-processes"], 1, stand_in_driver)
    assert len(list(Outcome(shared.play, 1, {**shared.found, "share": 0.5}, {}).misses())) == 1


def test_naive_polling_at_1_hz_misses_what_happens_between_its_readings(stand_in_driver: Path) -> None:
    """What the suite is for: bursts of 50 ms a second are busy for 1 s of 20, and a loop over the plain calls does not see that."""
    outcome = play(next(one for one in PLAYS if one.name == "bursts"), 1, stand_in_driver)
    ours, naive = outcome.error_pct("busy_s"), outcome.naive_pct("busy_s")
    assert ours is not None
    assert naive is not None
    assert abs(ours) < 10 < abs(naive)
