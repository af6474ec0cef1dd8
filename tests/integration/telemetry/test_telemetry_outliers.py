"""Hosts that callers' proxies have ejected: each caller has its own view, and the worst one counts."""

from collections.abc import Callable
from typing import Any

import pytest

from canary.errors import TelemetryAnswer
from canary.telemetry import SubsetName

V1, V2 = SubsetName("shop", "pay", "v1"), SubsetName("shop", "pay", "v2")
SCRAPES = [float(at) for at in range(0, 61, 5)]


def caller(number: int, namespace: str = "front") -> str:
    return f'job="envoy",instance="10.0.0.{number}:15090",namespace="{namespace}"'


class Proxy:
    """The two gauges of one caller's proxy."""

    def __init__(self, recording: Any, target: str) -> None:
        self._recording, self._target = recording, target

    def sees(self, cluster: str, members: float, ejected: dict[float, float], last: float = 60.0) -> None:
        """`ejected` by the time from which it is so."""
        labels = f'cluster_name="{cluster}",{self._target}'
        scrapes = [at for at in SCRAPES if at <= last]
        self._recording.sample(f"envoy_cluster_membership_total{{{labels}}}", dict.fromkeys(scrapes, members))
        self._recording.sample(
            f"envoy_cluster_outlier_detection_ejections_active{{{labels}}}",
            {
                at: next((out for since, out in sorted(ejected.items(), reverse=True) if since <= at), 0)
                for at in scrapes
            },
        )


def cluster(subset: str, port: int = 80, host: str = "pay.shop.svc.cluster.local") -> str:
    return f"outbound|{port}|{subset}|{host}"


def test_the_worst_caller_counts_and_not_the_sum_of_all(recording: Any, replay: Callable[..., Any]) -> None:
    for number in range(1, 4):
        proxy = Proxy(recording, caller(number))
        proxy.sees(cluster("v1"), 4, {20.0: 1} if number == 1 else {})
        proxy.sees(cluster("v2"), 3, {20.0: 3} if number == 2 else {10.0: 1})
    Proxy(recording, caller(9)).sees(cluster("v2"), 10, {0.0: 4})  # more hosts, and a smaller share

    found = replay().ejections([V1, V2], **recording.tiles(10, 30, 10.0))

    assert recording.by_second(found[V1]) == {10.0: (0, 4), 20.0: (1, 4), 30.0: (1, 4)}
    assert recording.by_second(found[V2]) == {10.0: (4, 10), 20.0: (3, 3), 30.0: (3, 3)}


def test_the_ports_of_a_service_add_up_within_one_caller(recording: Any, replay: Callable[..., Any]) -> None:
    proxy = Proxy(recording, caller(1))
    proxy.sees(cluster("v2", 80), 2, {0.0: 1})
    proxy.sees(cluster("v2", 8080), 2, {0.0: 2})

    found = replay().ejections([V2], **recording.tiles(20, 20, 10.0))

    assert recording.by_second(found[V2]) == {20.0: (3, 4)}


def test_only_the_very_subset_counts(recording: Any, replay: Callable[..., Any]) -> None:
    proxy = Proxy(recording, caller(1))
    proxy.sees(cluster("v2"), 2, {0.0: 1})
    for other in (
        cluster("v20"),
        cluster("v2", host="pay.shopping.svc.cluster.local"),
        cluster("v2", host="xpay.shop.svc.cluster.local"),
        cluster("v2", host="payxshop.svc.cluster.local"),
        cluster(""),
        "inbound|80||",
        "outbound_.80_.v2_.pay.shop.svc.cluster.local",
    ):
        proxy.sees(other, 2, {0.0: 2})
    whole = SubsetName("shop", "pay", "")

    found = replay().ejections([V2, whole, V1], **recording.tiles(20, 20, 10.0))

    assert {subset: recording.by_second(by_end) for subset, by_end in found.items()} == {
        V2: {20.0: (1, 2)},
        whole: {20.0: (2, 2)},
    }


def test_a_caller_that_exports_one_gauge_only_tells_nothing(recording: Any, replay: Callable[..., Any]) -> None:
    gauge = f'envoy_cluster_outlier_detection_ejections_active{{cluster_name="{cluster("v2")}",{caller(1)}}}'
    recording.sample(gauge, dict.fromkeys(SCRAPES, 2.0))

    assert replay().ejections([V2], **recording.tiles(20, 20, 10.0)) == {}


def test_a_host_that_left_while_ejected_is_not_more_than_all(recording: Any, replay: Callable[..., Any]) -> None:
    Proxy(recording, caller(1)).sees(cluster("v2"), 1, {0.0: 2})
    Proxy(recording, caller(2)).sees(cluster("v1"), 0, {0.0: 0})

    found = replay().ejections([V1, V2], **recording.tiles(20, 20, 10.0))

    assert recording.by_second(found[V2]) == {20.0: (1, 1)}
    assert recording.by_second(found[V1]) == {20.0: (0, 0)}


def test_half_a_host_is_no_answer(recording: Any, replay: Callable[..., Any]) -> None:
    Proxy(recording, caller(1)).sees(cluster("v2"), 2, {0.0: 0.5})

    with pytest.raises(TelemetryAnswer, match=r"0.5 hosts of shop/pay subset 'v2'"):
        replay().ejections([V2], **recording.tiles(20, 20, 10.0))


def test_whose_ejections_are_believed_follows_from_who_reports(recording: Any, replay: Callable[..., Any]) -> None:
    for number, (namespace, ejected) in enumerate([("front", 1), ("shop", 2), ("elsewhere", 3)]):
        Proxy(recording, caller(number, namespace)).sees(cluster("v2"), 4, {0.0: ejected})
    tiles = recording.tiles(20, 20, 10.0)

    def ejected(**settings: Any) -> list[tuple[int, int]]:
        return list(replay(**settings).ejections([V2], **tiles)[V2].values())

    assert ejected() == [(3, 4)]
    assert ejected(trusted_namespaces=frozenset({"front"})) == [(1, 4)]
    assert ejected(reporter="destination") == [(2, 4)]
