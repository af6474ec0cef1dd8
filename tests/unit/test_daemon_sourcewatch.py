"""How the metrics source is doing, told to those who wait for it."""

from __future__ import annotations

from typing import Any

import pytest

from canary.daemon.sourcewatch import SourceWatch
from canary.daemon.wallclock import WallClock
from canary.telemetry.preflight import SourceFacts

NOW = 1_000_000.0


class Source:
    """It answers, and its clock shows `shows`."""

    shows: float | None = NOW

    def facts(self, *, refresh: bool) -> SourceFacts:
        assert refresh
        return SourceFacts(1.0, 0.1, "source", up_joined=True)

    def server_now(self) -> float | None:
        return self.shows


def watch(source: Any) -> SourceWatch:
    return SourceWatch(source, clock=WallClock(lambda: NOW, lambda: 0.0))


@pytest.mark.parametrize(
    ("shows", "apart"), [(NOW + 90, "90 s behind Prometheus'"), (NOW - 3600, "3600 s ahead of Prometheus'")]
)
def test_clocks_that_differ_hold_everything_until_they_agree(shows: float, apart: str) -> None:
    source = Source()
    source.shows = shows
    watched = watch(source)

    watched.refresh()
    assert apart in watched.problem
    assert not watched.is_available

    source.shows = NOW + 1
    watched.refresh()
    assert watched.problem == ""
    assert watched.is_available


@pytest.mark.parametrize("shows", [None, NOW - 2, NOW + 2])
def test_a_clock_that_agrees_or_is_not_known_is_no_problem(shows: float | None) -> None:
    source = Source()
    source.shows = shows
    watched = watch(source)

    watched.refresh()

    assert watched.problem == ""
    assert watched.asked.is_set()
