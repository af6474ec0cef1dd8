"""The parts of `make bench-scale` that compute: what is exported, what is read off, what is over its limit."""

from __future__ import annotations

import pytest

from bench.scale.exporter import Gateways, canary_weight
from bench.scale.objects import mesh
from bench.scale.probes import quantile, series, total
from bench.scale.run import Findings
from bench.scale.shape import Service, failing, services
from canary.cluster.reflector import Change


def requests_of(text: bytes, workload: str, code: str) -> float:
    return total(series(text.decode()), "istio_requests_total", destination_workload=workload, response_code=code).get(
        "", 0.0
    )


def test_requests_follow_the_weights_and_a_version_without_any_has_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("bench.scale.exporter.time.time", lambda: now[0])
    gateways = Gateways(20)
    good = next(service for service in services(20) if service not in failing(20))
    now[0] += 10
    first = gateways.scrape(0)
    gateways.heard_of(Change("modified", (good.namespace, good.name), 0, 25))
    now[0] += 10
    second = gateways.scrape(0)

    stable, canary = good.deployment("v1"), good.deployment("v2")
    assert canary.encode() not in first.split(b"envoy_")[-1]
    assert requests_of(first, stable, "200") == pytest.approx(2000, abs=2)
    assert requests_of(second, stable, "200") == pytest.approx(3500, abs=2)
    assert requests_of(second, canary, "200") == pytest.approx(500, abs=2)


def test_the_first_errors_of_a_failing_canary_count_from_the_scrape_that_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("bench.scale.exporter.time.time", lambda: now[0])
    gateways, bad = Gateways(20), failing(20)[0]
    gateways.heard_of(Change("modified", (bad.namespace, bad.name), 0, 5))
    now[0] += 10
    text = gateways.scrape(0)
    now[0] += 0.5
    gateways.scraped(0)

    assert requests_of(text, bad.deployment("v2"), "503") == pytest.approx(100, abs=1)
    assert requests_of(text, bad.deployment("v2"), "200") == 0
    assert gateways.told()["first_bad"] == {bad.name: 1010.5}


def test_the_weight_is_that_of_the_canarys_destination() -> None:
    route = mesh(Service(3))[2]
    assert canary_weight(route) == 0

    route["spec"]["http"][0]["route"].append({"destination": {"host": "svc-0003", "subset": "v2"}, "weight": 15})
    assert canary_weight(route) == 15


def test_a_quantile_is_of_what_came_between_two_readings() -> None:
    before = series('x_bucket{le="1"} 5\nx_bucket{le="2"} 5\nx_bucket{le="+Inf"} 5\n')
    after = series('x_bucket{le="1"} 5\nx_bucket{le="2"} 15\nx_bucket{le="+Inf"} 15\n')

    assert quantile(before, after, "x", 0.5) == pytest.approx(1.5)
    assert quantile(after, after, "x", 0.5) is None


def test_one_in_twenty_releases_fails_and_five_at_most() -> None:
    assert [len(failing(count)) for count in (10, 40, 100, 2000)] == [1, 2, 5, 5]
    assert Findings(100, 5.0, 120.0, None).outage_rolled_back == 0
