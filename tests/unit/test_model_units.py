"""Units as people write them read back exactly, and a mistake says what would be right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.model.units import (
    format_duration,
    format_percent,
    format_time,
    parse_duration,
    parse_percent,
    parse_time,
)

microseconds = st.integers(min_value=0, max_value=365 * 24 * 3600 * 10**6)


@given(microseconds)
def test_every_duration_survives_printing_and_reading(count: int) -> None:
    duration = timedelta(microseconds=count)

    assert parse_duration(format_duration(duration)) == duration


@given(st.integers(min_value=0, max_value=10**6))
def test_every_share_in_millionths_survives_printing_and_reading(millionths: int) -> None:
    share = millionths / 10**6

    assert parse_percent(format_percent(share, digits=12)) == pytest.approx(share, abs=1e-14)


@given(st.integers(0, 7 * 10**15), st.integers(-12, 14))
def test_every_moment_survives_in_any_time_zone(microseconds_since_1970: int, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    moment = datetime(1970, 1, 1, tzinfo=zone) + timedelta(microseconds=microseconds_since_1970)

    assert parse_time(format_time(moment)) == moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("2m", 120), ("1h30m", 5400), ("1m30s", 90), ("0.5s", 0.5), ("0s", 0)],
)
def test_durations_are_written_as_in_istio(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "30", "-5s", "5 s", "2 minutes", "1d", "5µs", "1e3s", "٣s", "1s\n", 30, None, True]
)
def test_a_duration_without_a_known_unit_is_refused_with_examples(text: object) -> None:
    with pytest.raises(ValueError, match='like "500ms", "30s", "2m" or "1h30m"'):
        parse_duration(text)


def test_a_duration_longer_than_a_year_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 365 days"):
        parse_duration("9000h")


def test_a_duration_that_overflows_is_refused_like_any_other() -> None:
    with pytest.raises(ValueError, match="at most 365 days"):
        parse_duration("9" * 400 + "h")


@pytest.mark.parametrize("text", ["", "1", "1 %", "-1%", "101%", "1e2%", "%", "٣%", "1%\n", None, True, 1])
def test_a_percentage_outside_its_range_or_without_its_sign_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="between 0% and 100%"):
        parse_percent(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "1m30s"), (5400, "1h30m"), (0.25, "250ms"), (0.0005, "0.5ms"), (0, "0s")]
)
def test_durations_print_in_their_shortest_form(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


def test_kubernetes_times_are_read_with_and_without_fractions() -> None:
    assert parse_time("2026-01-31T08:00:00Z") == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert parse_time("2026-01-31T08:00:00.250000Z") == datetime(2026, 1, 31, 8, 0, 0, 250000, tzinfo=UTC)


def test_times_are_written_with_microseconds_because_the_step_clock_needs_them() -> None:
    assert format_time(datetime(2026, 1, 31, 8, 0, 0, 250000, tzinfo=UTC)) == "2026-01-31T08:00:00.250000Z"
