import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.errors import TelemetryAnswer
from canary.model.verdict import ArmCounts
from canary.telemetry import ServiceName
from canary.telemetry.queries import literal
from canary.telemetry.tiles import Grid
from canary.telemetry.unattributed import read_unattributed, service_of, unattributed_query

PAY = ServiceName("shop", "pay")
GRID = Grid.spanning(1000.0, 1001.0, 1.0)
names = st.text(st.sampled_from("abz019-"), min_size=1, max_size=10)


def row(first: Any, *, host: str = "pay.shop.svc.cluster.local", flags: str = "UH", **labels: str) -> dict[str, Any]:
    metric = {"destination_service": host, "source_workload_namespace": "front", "response_flags": flags}
    return {"metric": metric | labels, "values": [[1000, first], [1001, "0"]]}


@pytest.mark.parametrize(
    ("host", "caller", "service"),
    [
        ("pay.shop.svc.cluster.local", "front", PAY),
        ("pay.shop.svc.corp.example.org", "front", PAY),
        ("pay.shop.svc", "front", PAY),
        ("pay.shop", "front", PAY),
        ("pay", "shop", PAY),
        ("pay:8080", "shop", PAY),
        ("Pay.Shop:80", "front", PAY),
        ("pay", "front", ServiceName("front", "pay")),
        ("pay", "", None),
        ("pay.shop.example.org", "front", None),
        ("pay.shop.svcs.cluster.local", "front", None),
        ("", "front", None),
        (".shop.svc", "front", None),
        ("pay.", "front", None),
        ("10.0.0.7:80", "front", None),
        ("[::1]:80", "front", ServiceName("front", "[::1]")),  # a name that no Service has
        ("unknown", "front", ServiceName("front", "unknown")),
    ],
)
def test_a_host_is_the_service_that_its_caller_means(host: str, caller: str, service: ServiceName | None) -> None:
    assert service_of(host, caller) == service


@given(names, names, st.sampled_from(["", ".svc", ".svc.cluster.local"]), st.sampled_from(["", ":80"]), names)
def test_every_spelling_with_a_namespace_means_one_service(
    name: str, namespace: str, suffix: str, port: str, caller: str
) -> None:
    assert service_of(f"{name}.{namespace}{suffix}{port}", caller) == ServiceName(namespace, name)


@pytest.mark.parametrize(
    ("flags", "errors"),
    [("UH", 7), ("NC", 7), ("UO", 7), ("URX,UH", 7), ("UF", 0), ("-", 0), ("UT", 0), ("", 0), ("UHX", 0)],
)
def test_want_of_a_host_is_read_from_the_response_flags(flags: str, errors: int) -> None:
    found = read_unattributed([row("7", flags=flags)], [PAY], GRID)

    assert found == {PAY: {1000.0: ArmCounts(7, errors), 1001.0: ArmCounts(0, 0)}}


def test_rows_of_one_service_add_up_and_those_of_others_are_passed_over() -> None:
    rows = [
        row("7"),
        row("5", host="pay.shop", flags="NC"),
        row("2", flags="UF"),
        row("1", host="pay.bank.svc.cluster.local"),
        row("1", host="www.example.org"),
        row("1", host="pay"),
        {"metric": {}, "values": [[1000, "1"]]},
    ]

    assert read_unattributed(rows, [PAY], GRID)[PAY][1000.0] == ArmCounts(14, 12)
    assert read_unattributed(rows, [], GRID) == {}


@pytest.mark.parametrize("value", ["NaN", "-1", "0.5", "+Inf", None, 7])
def test_what_is_not_a_count_is_an_error_that_names_the_service(value: Any) -> None:
    with pytest.raises(TelemetryAnswer, match="shop/pay"):
        read_unattributed([row(value)], [PAY], GRID)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3))
def test_whatever_a_service_is_called_it_is_a_literal_in_the_query(services: list[str]) -> None:
    query = unattributed_query([ServiceName("shop", name) for name in services], "source", ["front"], 15)

    selections = query.count("istio_requests_total{")
    assert query.count('destination_workload="unknown"') == query.count(' namespace=~"front"') == selections
    assert all(literal(name) in literal_text(query) for name in services)


def literal_text(query: str) -> str:
    """Quoted strings as Prometheus reads them."""
    return re.sub(r'\\(?:U([0-9a-f]{8})|([\\"]))', lambda m: chr(int(m[1], 16)) if m[1] else m[2], query)
