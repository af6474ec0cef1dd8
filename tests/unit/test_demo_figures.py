"""What a release cost, counted from hand-written requests."""

from __future__ import annotations

import pytest

from canary.sandbox.demo.figures import Figures, figures
from canary.sandbox.load import Request

SLOW_S = 0.1


def request(
    start: float, version: str = "v1", status: int = 200, *, latency: float = 0.02, flags: str = "", probe: bool = False
) -> Request:
    return Request(start, latency, status, version, flags, probe)


def test_the_price_of_a_total_failure_counts_from_its_first_bad_answer_to_its_last_request() -> None:
    requests = [request(at / 10) for at in range(100)]
    requests += [request(3.0 + at / 10, "v5", 503) for at in range(10)]

    found = figures(requests, "v5", SLOW_S)

    assert (found.requests, found.errors, found.exposed, found.slow, found.lost) == (110, 10, 10, 0, 0)
    assert found.first_exposed == 3.0
    assert found.first_bad == pytest.approx(3.02)
    assert found.seconds_to_off == pytest.approx(0.9)
    assert found.seconds_to_detect(3.52) == pytest.approx(0.5)


def test_answers_in_place_of_ejected_pods_are_the_canarys_errors_and_keep_its_traffic_on() -> None:
    requests = [request(0.0), request(1.0, "v5", 500), request(2.0, "", 503, flags="UH")]

    found = figures(requests, "v5", SLOW_S)

    assert (found.errors, found.exposed, found.lost) == (2, 2, 0)
    assert found.seconds_to_off == pytest.approx(1.0)


@pytest.mark.parametrize("flags", ["NC", "NR", "UF", "UC", "UF,URX"])
def test_requests_lost_on_the_way_are_no_versions_doing(flags: str) -> None:
    found = figures([request(0.0, "v2"), request(1.0, "", 503, flags=flags)], "v2", SLOW_S)

    assert (found.lost, found.errors, found.exposed) == (1, 1, 1)
    assert found.first_bad is None


@pytest.mark.parametrize("why", ["connect", "reset", "timeout"])
def test_requests_without_an_answer_are_lost(why: str) -> None:
    assert figures([request(0.0, "", 0, flags=why)], "v2", SLOW_S).lost == 1


def test_header_probes_are_in_no_figure_but_a_lost_one_is_lost() -> None:
    requests = [request(0.0, "v5", 500, probe=True), request(0.5, "", 503, flags="NC", probe=True), request(2.0)]

    assert figures(requests, "v5", SLOW_S) == Figures(requests=1, lost=1)


def test_a_slow_answer_is_a_bad_one_and_a_slow_stable_is_not_the_canarys() -> None:
    requests = [request(0.0, latency=0.5), request(1.0, "v4"), request(2.0, "v4", latency=0.3)]

    found = figures(requests, "v4", SLOW_S)

    assert (found.exposed, found.slow, found.errors) == (2, 1, 0)
    assert found.first_bad == pytest.approx(2.3)


def test_errors_of_the_stable_version_are_seen_by_callers_but_not_held_against_the_canary() -> None:
    found = figures([request(0.0, "v1", 500), request(1.0, "v2")], "v2", SLOW_S)

    assert (found.errors, found.exposed, found.first_bad) == (1, 1, None)
    assert found.seconds_to_off is None
    assert found.seconds_to_detect(9.0) is None


def test_the_order_in_which_answers_were_written_down_does_not_matter() -> None:
    requests = [request(at / 7, "v3", 500 if at % 4 else 200, latency=0.05 * (at % 3)) for at in range(40)]

    assert figures(requests, "v3", SLOW_S) == figures(reversed(requests), "v3", SLOW_S)
