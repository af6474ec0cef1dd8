"""Sums over the last minute are exact, and no longer than a minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from canary.analysis.counts import LastMinute
from canary.model.verdict import ArmCounts, Window


def window(start: float, end: float) -> Window:
    return Window(start, end, 1, 10, ArmCounts(), ArmCounts())


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 90), st.integers(0, 10**12)), min_size=1, max_size=60))
def test_the_last_minute_is_the_sum_of_the_windows_that_ended_in_it(shape: list[tuple[int, int, int]]):
    minute, kept, now = LastMinute(figures=2), [], 0.0
    for gap, length, count in shape:
        start, now = now + gap, now + gap + length
        minute.add(window(start, now), count, 2 * count)
        kept.append((start, now, count))

        inside = [entry for entry in kept if entry[1] > now - 60]
        total = sum(entry[2] for entry in inside)
        assert minute.sums == (total, 2 * total)
        assert minute.span_s == now - inside[0][0]


def test_a_window_longer_than_a_minute_is_kept_whole():
    minute = LastMinute(figures=1)
    minute.add(window(0, 300), 7)

    assert minute.sums == (7,)
    assert minute.span_s == 300
