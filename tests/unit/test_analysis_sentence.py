"""Numbers as people read them, and the interval shown beside a share."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canary.analysis import sentence
from canary.analysis.interval import confidence_sequence
from canary.model.verdict import ArmCounts, SourceState


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (7 / 131, "5.3 %"),
        (1 / 1180, "0.08 %"),
        (0.01, "1 %"),
        (0.005, "0.5 %"),
        (0.1, "10 %"),
        (1 / 3, "33.3 %"),
        (0.9999, "over 99.9 %"),
        (1e-9, "under 0.001 %"),
        (0.00002, "0.002 %"),
    ],
)
def test_a_share_reads_short_and_never_rounds_to_none_or_all(share: float, text: str):
    assert sentence.share_text(share) == text


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_some_is_never_shown_as_none_nor_as_all(good: int, bad: int):
    text = sentence.share_text(bad / (good + bad))

    assert (text == "0 %") == (bad == 0)
    assert text != "100 %"


@pytest.mark.parametrize(
    ("e_value", "text"),
    [
        (3912.4, "3,900:1"),
        (199.6, "200:1"),
        (137.8, "140:1"),
        (11.2, "11:1"),
        (9.97, "10:1"),
        (5.0, "5:1"),
        (1.48, "1.5:1"),
        (0.734, "0.73:1"),
        (0.001, "under 0.01:1"),
        (1e299, "over 1,000,000:1"),
    ],
)
def test_evidence_reads_as_odds_of_two_digits(e_value: float, text: str):
    assert sentence.ratio_text(e_value) == text


@pytest.mark.parametrize(
    ("slower", "text"),
    [
        ({250.0: 2, 500.0: 1}, "1 of 200 slower than 500ms (0.5 %), P99 at most 250ms"),
        ({250.0: 40, 500.0: 1}, "1 of 200 slower than 500ms (0.5 %), P99 at most 500ms"),
        ({500.0: 50, 1000.0: 9}, "50 of 200 slower than 500ms (25 %), P99 over 1s"),
        ({0.5: 1, 500.0: 0}, "0 of 200 slower than 500ms (0 %), P99 at most 0.5ms"),
    ],
)
def test_p99_is_placed_between_buckets_and_never_interpolated(slower: dict[float, int], text: str):
    assert sentence.p99_text(ArmCounts(200, 0, 200, slower), 500.0) == text


def test_singular_and_none_read_as_people_write_them():
    assert sentence.errors_text(ArmCounts(1, 1), "canary") == "1 error (100 %) in 1 canary request"
    assert sentence.errors_text(ArmCounts(), "canary") == "no canary request"
    assert sentence.p99_text(ArmCounts(), 500.0) == "no latency measured"
    assert sentence.seconds_text(1.0) == "1 s"
    assert sentence.seconds_text(59.6) == "60 s"


def test_an_unavailable_source_is_told_with_and_without_its_reason():
    source = SourceState(available=False, tile_s=2, settle_s=2)

    assert sentence.unavailable(source).startswith("the metrics source does not answer; ")


def test_the_interval_covers_the_true_share_at_every_look_at_once():
    rng, misses, runs = random.Random(8), 0, 150
    for _ in range(runs):
        bad, missed = 0, False
        for total in range(1, 301):
            bad += rng.random() < 0.1
            if total % 5 == 0:
                interval = confidence_sequence(total, bad, 0.1)
                assert interval is not None
                missed = missed or not interval[0] <= 0.1 <= interval[1]
        misses += missed

    assert misses <= 27  # 99.9 % quantile of Bin(150, 10 %)


def test_the_interval_ends_where_the_mixture_martingale_reaches_one_over_alpha():
    """The mixture by plain numerical integration: under Beta(1/2, 1/2), p = sin^2 of a uniform angle."""

    def likelihood(share: float) -> float:
        return share**3 * (1 - share) ** 17

    angles = [math.pi / 2 * (index + 0.5) / 4000 for index in range(4000)]
    mixed = sum(likelihood(math.sin(angle) ** 2) for angle in angles) / len(angles)

    interval = confidence_sequence(20, 3, 0.05)

    assert interval is not None
    assert [mixed / likelihood(edge) for edge in interval] == pytest.approx([20, 20], rel=1e-5)


def test_the_interval_narrows_with_the_requests_and_is_open_only_at_the_ends():
    few, many = confidence_sequence(100, 5, 0.01), confidence_sequence(100_000, 5_000, 0.01)

    assert few is not None
    assert many is not None
    assert few[0] < many[0] < 0.05 < many[1] < few[1]
    assert many[1] - many[0] < 0.01
    assert confidence_sequence(0, 0, 0.01) is None
    none, whole = confidence_sequence(50, 0, 0.01), confidence_sequence(50, 50, 0.01)
    assert none is not None
    assert whole is not None
    assert none[0] == 0
    assert 0 < none[1] < 0.5
    assert whole[1] == 1


@given(st.integers(0, 2**53), st.integers(0, 2**53))
@example(good=1, bad=864284373)
@example(good=864284373, bad=1)
def test_the_interval_stays_in_order_for_any_counts(good: int, bad: int):
    interval = confidence_sequence(good + bad, bad, 0.01)

    if interval is not None:
        assert 0 <= interval[0] <= bad / (good + bad) <= interval[1] <= 1
