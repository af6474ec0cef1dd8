"""Whether istiod's own metrics say that the proxies have, and take, their configuration."""

from collections.abc import Callable
from typing import Any

import pytest


def istiod(
    recording: Any, series: str, value: float | Callable[[float], float], namespace: str = "istio-system"
) -> None:
    name, _, labels = series.partition("{")
    target = f'job="istiod",instance="10.2.0.1:15014",namespace="{namespace}"'
    scrapes = [float(at) for at in range(-600, 121, 5)]
    recording.sample(
        f"{name}{{{labels.rstrip('}')}{',' if labels else ''}{target}}}",
        {at: value(at) if callable(value) else value for at in scrapes},
    )


def up(recording: Any, namespace: str = "istio-system") -> None:
    target = f'job="istiod",instance="10.2.0.1:15014",namespace="{namespace}"'
    recording.target(target, [float(at) for at in range(-600, 121, 5)])


@pytest.mark.parametrize("bound", ["10", "10.0"])  # as Prometheus 2 and 3 store it
def test_a_control_plane_whose_pushes_take_long_is_named_for_as_long(
    recording: Any, replay: Callable[..., Any], bound: str
) -> None:
    up(recording)
    istiod(recording, "pilot_proxy_convergence_time_count", lambda at: 5000 + (40 if at >= 0 else 0))
    istiod(recording, f'pilot_proxy_convergence_time_bucket{{le="{bound}"}}', lambda at: 4990 + (35 if at >= 0 else 0))
    istiod(recording, 'pilot_proxy_convergence_time_bucket{le="20"}', lambda at: 4990 + (40 if at >= 0 else 0))
    istiod(recording, "pilot_total_xds_rejects", 3)

    found = replay().control_plane(**recording.tiles(-30, 120, 10.0))

    words = "the control plane does not converge: 5 of 40 pushes to proxies (12.5 %) took over 10 s"
    assert recording.by_second(found) == dict.fromkeys([float(end) for end in range(0, 120, 10)], words)


def test_configuration_that_proxies_reject_is_named_also_when_it_is_the_first(
    recording: Any, replay: Callable[..., Any]
) -> None:
    up(recording)
    istiod(recording, "pilot_proxy_convergence_time_count", lambda at: 5000 + (50 if at >= 0 else 0))
    istiod(recording, 'pilot_proxy_convergence_time_bucket{le="10.0"}', lambda at: 5000 + (50 if at >= 0 else 0))
    labels = 'job="istiod",instance="10.2.0.1:15014",namespace="istio-system"'
    recording.sample(f"pilot_total_xds_rejects{{{labels}}}", dict.fromkeys(map(float, range(45, 121, 5)), 3.0))

    found = recording.by_second(replay().control_plane(**recording.tiles(30, 60, 10.0)))

    assert found == dict.fromkeys(
        [50.0, 60.0], "the control plane does not converge: proxies rejected 3 configurations"
    )


def test_a_few_rejections_among_thousands_of_pushes_excuse_nobody(recording: Any, replay: Callable[..., Any]) -> None:
    up(recording)
    for bucket in ("pilot_proxy_convergence_time_count", 'pilot_proxy_convergence_time_bucket{le="10"}'):
        istiod(recording, bucket, lambda at: 10 * (at + 600))
    istiod(recording, "pilot_total_xds_rejects", lambda at: (at + 600) // 60)

    assert replay().control_plane(**recording.tiles(0, 100, 10.0)) == {}


def test_only_istiods_own_namespace_is_believed(recording: Any, replay: Callable[..., Any]) -> None:
    up(recording, "elsewhere")
    istiod(recording, "pilot_total_xds_rejects", lambda at: 600 + at, namespace="elsewhere")
    tiles = recording.tiles(0, 100, 10.0)

    assert replay().control_plane(**tiles) == {}
    assert len(replay(control_plane_namespace="").control_plane(**tiles)) == 11
    assert len(replay(control_plane_namespace="elsewhere").control_plane(**tiles)) == 11
