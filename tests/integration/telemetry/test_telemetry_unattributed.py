"""Requests that reached no version, from the series that Istio's proxies write about them."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from canary.model.verdict import ArmCounts
from canary.telemetry import ServiceName

PAY = ServiceName("shop", "pay")
CALLER = 'job="envoy",instance="10.0.0.1:15090",namespace="front"'
STRANGER = 'job="envoy",instance="10.0.0.2:15090",namespace="elsewhere"'
SCRAPES = [float(at) for at in range(-600, 121, 5)]


def unknown(
    flags: str,
    *,
    host: str = "pay.shop.svc.cluster.local",
    name: str = "pay",
    namespace: str = "unknown",
    code: str = "503",
    target: str = CALLER,
    reporter: str = "source",
) -> str:
    """As a caller's proxy writes it: without a peer it does not know the service's namespace."""
    return (
        f'istio_requests_total{{reporter="{reporter}",source_workload="web",source_workload_namespace="front",'
        f'destination_workload="unknown",destination_workload_namespace="unknown",destination_service="{host}",'
        f'destination_service_name="{name}",destination_service_namespace="{namespace}",response_code="{code}",'
        f'response_flags="{flags}",{target}}}'
    )


def grown(lifetime: int, by_time: Mapping[float, int], since: float = -600.0) -> dict[float, float]:
    """A counter as scraped from `since` on: its lifetime, and what has happened by each scrape."""
    return {
        at: float(lifetime + sum(count for when, count in by_time.items() if when <= at))
        for at in SCRAPES
        if at >= since
    }


def total(tiles: Mapping[float, ArmCounts]) -> Counter[str]:
    return Counter(
        requests=sum(counts.requests for counts in tiles.values()),
        errors=sum(counts.errors for counts in tiles.values()),
    )


def test_tiles_sum_exactly_through_births_resets_and_lifetimes(recording: Any, replay: Callable[..., Any]) -> None:
    recording.target(CALLER, SCRAPES)
    recording.sample(unknown("UH"), grown(1_000_000, {12.0: 7, 33.0: 11, 60.0: 1}))
    recording.sample(unknown("UO"), grown(0, {41.0: 101}, since=41.0))  # born with 101
    recording.sample(unknown("URX,UH"), grown(0, {22.0: 3}, since=22.0))
    recording.sample(unknown("UF"), grown(500, {50.0: 20}))  # a connection failed: no want of a host
    reset = {at: 90_000.0 if at < 70 else 13.0 for at in SCRAPES}
    recording.sample(unknown("UH", code="500"), reset)
    source = replay()

    found = source.unattributed([PAY], **recording.tiles(10, 110, 10.0))

    by_end = recording.by_second(found[PAY])
    assert total(found[PAY]) == Counter(requests=7 + 11 + 1 + 101 + 3 + 20 + 13, errors=7 + 11 + 1 + 101 + 3 + 13)
    assert by_end[20.0] == ArmCounts(7, 7)
    assert by_end[50.0] == ArmCounts(121, 101)
    assert by_end[100.0] == ArmCounts(0, 0)


def test_a_request_belongs_to_the_service_of_its_host_whatever_its_namespace_label_says(
    recording: Any, replay: Callable[..., Any]
) -> None:
    recording.target(CALLER, SCRAPES)
    of_bank = unknown("UH", host="pay.bank.svc.cluster.local", namespace="shop")
    of_waypoint = unknown("UH", namespace="waypoints", reporter="waypoint")
    recording.sample(unknown("UH"), grown(0, {12.0: 1}))
    recording.sample(of_bank, grown(0, {12.0: 10}))
    recording.sample(of_waypoint, grown(0, {12.0: 100}))
    source = replay()
    tiles = recording.tiles(10, 20, 10.0)

    found = source.unattributed([PAY, ServiceName("bank", "pay"), ServiceName("shop", "other")], **tiles)

    assert {service: total(by_end)["errors"] for service, by_end in found.items()} == {
        PAY: 1,
        ServiceName("bank", "pay"): 10,
    }
    assert total(replay(reporter="waypoint").unattributed([PAY], **tiles)[PAY])["errors"] == 100
    from_pods = replay(reporter="destination")
    assert from_pods.unattributed([PAY], **tiles) == {}
    assert from_pods.queries_sent == 0


def test_without_a_cluster_the_host_header_tells_the_service_in_any_spelling(
    recording: Any, replay: Callable[..., Any]
) -> None:
    recording.target(CALLER, SCRAPES)
    for number, host in enumerate(
        ["pay.shop", "pay.shop:8080", "PAY.shop.svc", "pay.shop.svc.cluster.local:80", "pay.shop.svc.example.org"]
    ):
        recording.sample(unknown("NC", host=host, name=host), grown(0, {12.0: 10**number}))
    recording.sample(unknown("NC", host="pay", name="pay"), grown(0, {12.0: 1_000_000}))  # front's own
    recording.sample(unknown("NC", host="pay.example.org", name="pay.example.org"), grown(0, {12.0: 1_000_000}))
    recording.sample(unknown("NR", host="pay.shop", name="pay.shop"), grown(0, {12.0: 1_000_000}))
    recording.sample(unknown("NR", host="pay", name="pay"), grown(0, {12.0: 1_000_000}))
    recording.sample(unknown("UH", host="pay.shop", name="BlackHoleCluster"), grown(0, {12.0: 1_000_000}))
    recording.sample(unknown("DC", code="0"), grown(0, {12.0: 1_000_000}))
    source = replay()

    found = source.unattributed([PAY, ServiceName("front", "pay")], **recording.tiles(10, 20, 10.0))

    assert total(found[PAY]) == Counter(requests=11_111, errors=11_111)
    assert total(found[ServiceName("front", "pay")]) == Counter(requests=1_000_000, errors=1_000_000)


def test_only_trusted_callers_are_believed(recording: Any, replay: Callable[..., Any]) -> None:
    recording.target(CALLER, SCRAPES)
    recording.target(STRANGER, SCRAPES)
    recording.sample(unknown("UH"), grown(0, {12.0: 1}))
    recording.sample(unknown("UH", target=STRANGER), grown(0, {12.0: 1000}))
    tiles = recording.tiles(10, 20, 10.0)

    trusting = replay(trusted_namespaces=frozenset({"front"})).unattributed([PAY], **tiles)

    assert total(trusting[PAY])["errors"] == 1
    assert total(replay().unattributed([PAY], **tiles)[PAY])["errors"] == 1001


def test_a_series_without_an_earlier_scrape_of_its_target_counts_no_lifetime(
    recording: Any, replay: Callable[..., Any]
) -> None:
    recording.target(CALLER, [at for at in SCRAPES if at >= 30])
    recording.sample(unknown("UH"), grown(1_000_000, {52.0: 4}, since=30.0))

    found = replay().unattributed([PAY], **recording.tiles(10, 60, 10.0))

    assert total(found[PAY]) == Counter(requests=4, errors=4)
