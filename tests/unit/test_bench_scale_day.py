"""Memory over a day of releases, in its short form; the whole day is `python -m bench.scale.day`."""

from __future__ import annotations

import pytest

from bench.scale.day import hours

RELEASES, HOURS = 5, 4
PER_RELEASE = 10_000
"""Bytes: a judge with its windows is thirty thousand and more, a sentence is a few hundred."""


@pytest.mark.slow
def test_releases_that_are_over_leave_nothing_behind() -> None:
    used, ended = hours(RELEASES, HOURS)

    after_two_hours = ended * (HOURS - 2) / HOURS
    assert after_two_hours > 20
    assert used[-1] - used[1] < after_two_hours * PER_RELEASE
