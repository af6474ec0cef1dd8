"""From which scrapes a tile counts: what decides whether a tile just after a weight holds requests from before it."""

from collections.abc import Callable
from typing import Any

from canary.telemetry import Workload

PAY = Workload("shop", "pay-v1")
CANARY = Workload("shop", "pay-v2")


def scrapes(phase: float, first: float = -400.0, last: float = 120.0, but: tuple[float, ...] = ()) -> list[float]:
    """Every 5 s."""
    times = [phase + 5 * step for step in range(-200, 200)]
    return [at for at in times if first <= at <= last and at not in but]


def target(number: int) -> str:
    return f'job="envoy",instance="10.0.0.{number}:15090",namespace="front"'


def requests(number: int, workload: str = "pay-v1") -> str:
    return (
        f'istio_requests_total{{reporter="source",destination_workload_namespace="shop",response_code="200",'
        f'destination_workload="{workload}",{target(number)}}}'
    )


def counting(times: list[float]) -> dict[float, float]:
    return {at: 1000 + 7 * at for at in times}


def openings(recording: Any, source: Any, workload: Workload = PAY) -> dict[float, float]:
    """By tile end: the second of the recording from which it counts; 0 where that is not known."""
    batch = source.tiles([PAY, CANARY], [], **recording.tiles(30, 45, 5.0), openings_of=[workload])
    found = batch.openings.get(workload, {})
    return {end: recording.second(at) if at else 0.0 for end, at in recording.by_second(found).items()}


def test_a_tile_counts_from_the_last_scrape_before_it(recording: Any, replay: Callable[..., Any]) -> None:
    recording.target(target(1), scrapes(3))
    recording.sample(requests(1), counting(scrapes(3)))

    assert openings(recording, replay()) == {30.0: 23.0, 35.0: 28.0, 40.0: 33.0, 45.0: 38.0}


def test_of_several_callers_the_one_that_was_scraped_first_counts(recording: Any, replay: Callable[..., Any]) -> None:
    for number, phase in ((1, 4.5), (2, 1), (3, 2)):
        recording.target(target(number), scrapes(phase))
        recording.sample(requests(number), counting(scrapes(phase)))

    assert openings(recording, replay()) == {30.0: 21.0, 35.0: 26.0, 40.0: 31.0, 45.0: 36.0}


def test_after_a_scrape_that_is_missing_the_next_tile_counts_from_further_back(
    recording: Any, replay: Callable[..., Any]
) -> None:
    recording.target(target(1), scrapes(3))
    recording.sample(requests(1), counting(scrapes(3, but=(33.0,))))

    # nothing was scraped in (30, 35]: it counts nothing
    assert openings(recording, replay()) == {30.0: 23.0, 40.0: 28.0, 45.0: 38.0}


def test_a_caller_that_is_gone_keeps_nobody_waiting(recording: Any, replay: Callable[..., Any]) -> None:
    recording.target(target(1), scrapes(4))
    recording.sample(requests(1), counting(scrapes(4)))
    recording.target(target(2), scrapes(1, last=12))
    recording.sample(requests(2), counting(scrapes(1, last=12)))

    assert openings(recording, replay()) == {30.0: 24.0, 35.0: 29.0, 40.0: 34.0, 45.0: 39.0}


def test_the_first_requests_of_a_canary_count_from_its_callers_last_scrape(
    recording: Any, replay: Callable[..., Any]
) -> None:
    recording.target(target(1), scrapes(3))
    recording.sample(requests(1), counting(scrapes(3)))
    recording.sample(requests(1, "pay-v2"), dict.fromkeys(scrapes(3, first=33), 12.0))

    assert openings(recording, replay(), CANARY) == {35.0: 28.0, 40.0: 33.0, 45.0: 38.0}


def test_a_caller_that_comes_with_a_past_counts_nothing_and_is_not_asked(
    recording: Any, replay: Callable[..., Any]
) -> None:
    recording.target(target(1), scrapes(4))
    recording.sample(requests(1), counting(scrapes(4)))
    recording.target(target(2), scrapes(1, first=31))
    recording.sample(requests(2), counting(scrapes(1, first=31)))

    assert openings(recording, replay()) == {30.0: 24.0, 35.0: 29.0, 40.0: 31.0, 45.0: 36.0}


def test_after_an_outage_of_the_source_itself_a_tile_counts_from_before_it(
    recording: Any, replay: Callable[..., Any]
) -> None:
    recording.target(target(1), scrapes(3, last=-100) + scrapes(3, first=33))
    recording.sample(requests(1), counting(scrapes(3, last=-100) + scrapes(3, first=33)))

    assert openings(recording, replay()) == {35.0: -102.0, 40.0: 33.0, 45.0: 38.0}
