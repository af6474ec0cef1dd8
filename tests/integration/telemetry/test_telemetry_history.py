"""What stable did before a rollout, with every bucket of its histogram, whoever named the buckets."""

from collections.abc import Callable
from typing import Any

from canary.telemetry import Workload

PAY = Workload("shop", "pay-v1")
TARGET = 'job="envoy",instance="10.0.0.1:15090",namespace="front"'
SCRAPES = [float(at) for at in range(-600, 121, 5)]

LABELS = (
    'reporter="source",destination_workload_namespace="shop",destination_workload="pay-v1",response_code="{code}",'
    + TARGET
)


def requests(code: str = "200") -> str:
    return f"istio_requests_total{{{LABELS.format(code=code)}}}"


def bucket(bound: str, code: str = "200") -> str:
    return f'istio_request_duration_milliseconds_bucket{{{LABELS.format(code=code)},le="{bound}"}}'


def rising(lifetime: float, per_scrape: float, *, first: float = -600.0, last: float = 120.0) -> dict[float, float]:
    """As scraped in the time given; what was counted goes on all the while."""
    return {at: lifetime + per_scrape * (at + 600) / 5 for at in SCRAPES if first <= at <= last}


def record_traffic(recording: Any) -> None:
    recording.target(TARGET, SCRAPES)
    recording.sample(requests(), rising(1_000_000, 10))
    recording.sample(requests("503"), rising(0, 2))


def test_every_bound_of_a_custom_layout_is_counted_exactly(recording: Any, replay: Callable[..., Any]) -> None:
    record_traffic(recording)
    for bound, per_scrape in {"0.25": 1, "7": 4, "40": 7, "333": 9, "+Inf": 10}.items():
        recording.sample(bucket(bound), rising(500_000, per_scrape))
    recording.sample(bucket("7", "503"), rising(0, 2))  # fast failures are no latency
    recording.sample(bucket("+Inf", "503"), rising(0, 2))

    tiles = replay().history(PAY, **recording.tiles(10, 100, 10.0))

    assert len(tiles) == 10
    for tile in tiles:
        assert dict(tile.status) == {("200", ""): 20, ("503", ""): 4}
        assert tile.timed == 20
        assert dict(tile.slower) == {0.25: 18, 7.0: 12, 40.0: 6, 333.0: 2}


def test_a_prometheus_upgraded_meanwhile_names_the_same_bounds_otherwise(
    recording: Any, replay: Callable[..., Any]
) -> None:
    record_traffic(recording)
    # +Inf and 0.5 keep their names; Prometheus 3 writes 500.0 and 1.8e+06 for 500 and 1800000
    recording.sample(bucket("+Inf"), rising(500_000, 10))
    recording.sample(bucket("0.5"), rising(500_000, 1))
    for old, new, per_scrape in (("500", "500.0", 6), ("1800000", "1.8e+06", 10)):
        recording.sample(bucket(old), rising(500_000, per_scrape, last=40))
        recording.sample(bucket(new), rising(500_000, per_scrape, first=45))
    source = replay()

    tiles = source.history(PAY, **recording.tiles(10, 100, 10.0))

    assert sum(tile.timed for tile in tiles) == 200
    assert sum(tile.slower[500.0] for tile in tiles) == 80
    assert sum(tile.slower[0.5] for tile in tiles) == 180
    assert tiles == source.tiles([PAY], list(tiles[0].slower), **recording.tiles(10, 100, 10.0)).tiles[PAY]


def test_an_idle_workload_has_empty_tiles_and_an_unknown_one_none(recording: Any, replay: Callable[..., Any]) -> None:
    recording.target(TARGET, SCRAPES)
    recording.sample(requests(), rising(7, 0))
    for bound in ("100", "+Inf"):
        recording.sample(bucket(bound), rising(7, 0))
    source = replay()

    tiles = source.history(PAY, **recording.tiles(10, 100, 10.0))

    assert [(tile.timed, dict(tile.slower), dict(tile.status)) for tile in tiles] == [
        (0, {100.0: 0}, {("200", ""): 0})
    ] * 10
    assert source.history(Workload("shop", "nobody"), **recording.tiles(10, 100, 10.0)) == ()


def test_a_long_history_comes_in_pieces_and_sums_to_the_counters_difference(
    recording: Any, replay: Callable[..., Any]
) -> None:
    record_traffic(recording)
    for bound, per_scrape in {"100": 3, "+Inf": 10}.items():
        recording.sample(bucket(bound), rising(500_000, per_scrape))
    source = replay()

    before = source.queries_sent
    tiles = source.history(PAY, **recording.tiles(-590, 120, 1.0))

    assert (len(tiles), source.queries_sent - before) == (711, 4)
    assert sum(tile.status["200", ""] for tile in tiles) == 10 * 143
    assert (sum(tile.timed for tile in tiles), sum(tile.slower[100.0] for tile in tiles)) == (1430, 7 * 143)
