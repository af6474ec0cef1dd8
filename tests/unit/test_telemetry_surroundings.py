"""Parsing of what is asked beside the counts: steal, the control plane, history's bounds, metrics of one's own."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.errors import TelemetryAnswer
from canary.telemetry import Workload
from canary.telemetry.controlplane import IN_TIME, PUSHES, REJECTED, control_plane_query, read_control_plane
from canary.telemetry.history import common_bounds, read_histories
from canary.telemetry.metric import read_metric
from canary.telemetry.queries import Scope
from canary.telemetry.rows import series_of
from canary.telemetry.steal import Exporters, exporters_query, read_exporters, read_steal, steal_query
from canary.telemetry.tiles import Grid

GRID = Grid.spanning(1000.0, 1001.0, 1.0)
PAY = Workload("shop", "pay-v1")
SCOPE = Scope(frozenset({PAY}), "source")


def row(first: Any, second: Any = None, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [[1000, first], *([[1001, second]] if second is not None else [])]}


def test_an_exporter_answers_for_its_kernels_name_and_for_the_label_that_discovery_set() -> None:
    rows = [
        row("1", job="node", instance="a", nodename="ip-10-0-0-1", node="node-a"),
        row("1", job="node", instance="b", nodename="node-b"),
        row("1", job="other", instance="b", nodename="node-b"),
    ]

    exporters = read_exporters(rows, ["node-a", "node-b"])

    assert exporters.nodes == {
        ("node", "a"): frozenset({"node-a"}),
        ("node", "b"): frozenset({"node-b"}),
        ("other", "b"): frozenset({"node-b"}),
    }


def test_the_smallest_steal_counts_where_several_claim_a_node() -> None:
    exporters = Exporters({("node", "a"): frozenset({"n"}), ("node", "b"): frozenset({"n"})})
    rows = [row("0.02", "0.5", job="node", instance="a"), row("0.9", "0.25", job="node", instance="b")]

    assert read_steal(rows, exporters, GRID) == {"n": {1000.0: 0.02, 1001.0: 0.25}}
    assert read_steal([row("0.9", job="node", instance="stranger")], exporters, GRID) == {}


@pytest.mark.parametrize("value", ["1.1", "-0.1", "NaN", "+Inf", 0.5, None])
def test_what_is_no_share_of_time_is_an_error_that_names_the_node(value: Any) -> None:
    exporters = Exporters({("node", "a"): frozenset({"node-a"})})

    with pytest.raises(TelemetryAnswer, match="node-a"):
        read_steal([row(value, job="node", instance="a")], exporters, GRID)


def test_queries_of_nodes_name_them_exactly() -> None:
    assert 'node_uname_info{nodename=~"a\\\\.b|c"}[900s]' in exporters_query(["c", "a.b"], 600)
    query = steal_query(Exporters({("node", "10.0.0.1:9100"): frozenset({"n"})}), 15)
    assert 'node_cpu_seconds_total{mode="steal", job=~"node", instance=~"10\\\\.0\\\\.0\\\\.1:9100"}[15000ms]' in query
    assert "[150000ms]" in query


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({PUSHES: "100", IN_TIME: "99", REJECTED: "1"}, ""),
        ({PUSHES: "100", IN_TIME: "98"}, "2 of 100 pushes to proxies (2 %) took over 10 s"),
        ({PUSHES: "0", IN_TIME: "0", REJECTED: "0"}, ""),
        ({REJECTED: "1"}, "proxies rejected 1 configuration"),
        ({PUSHES: "0", IN_TIME: "0", REJECTED: "2"}, "proxies rejected 2 configurations"),
        ({PUSHES: "5"}, ""),  # no bucket at 10 s: nothing is known of how long they took
        ({PUSHES: "5", IN_TIME: "6"}, ""),
        (
            {PUSHES: "2000", IN_TIME: "800", REJECTED: "1500"},
            "1,200 of 2,000 pushes to proxies (60 %) took over 10 s and proxies rejected 1,500 configurations",
        ),
        ({}, ""),
    ],
)
def test_a_control_plane_that_does_not_converge_says_why(counts: dict[str, str], words: str) -> None:
    rows = [row(count, canary_question=question) for question, count in counts.items()]

    expected = {1000.0: f"the control plane does not converge: {words}"} if words else {}
    assert read_control_plane(rows, GRID) == expected


def test_the_control_planes_namespace_is_matched_unless_anybody_is_believed() -> None:
    assert 'pilot_total_xds_rejects{namespace="istio-system"}' in control_plane_query("istio-system", 5)
    assert "offset 120000ms" in control_plane_query("", 5)
    assert "offset 300000ms" in control_plane_query("", 300)
    assert ", namespace" not in control_plane_query("", 5)


def buckets(**counts: tuple[str, str]) -> list[dict[str, Any]]:
    labels = {"destination_workload_namespace": "shop", "destination_workload": "pay-v1"}
    return [row(*values, **labels, le=bound.removeprefix("le").replace("_", ".")) for bound, values in counts.items()]


def test_bounds_are_those_that_every_tile_with_requests_has() -> None:
    rows = buckets(leInf=("9", "9"), le5=("1", "1"), le500_0=("8", "8"))
    labels = {"destination_workload_namespace": "shop", "destination_workload": "pay-v1"}
    late = {"metric": labels | {"le": "250"}, "values": [[1001, "5"]]}
    idle = {"metric": labels | {"le": "250"}, "values": [[1000, "0"]]}

    assert common_bounds(rows, SCOPE, GRID) == {PAY: [5.0, 500.0]}
    assert common_bounds([*rows, late], SCOPE, GRID) == {PAY: [5.0, 500.0]}
    assert common_bounds([*buckets(leInf=("0", "0"), le5=("0", "0")), idle], SCOPE, GRID) == {PAY: [5.0]}
    assert common_bounds([], SCOPE, GRID) == {}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_slower_falls_with_the_bound_and_is_the_histograms_own(counts: list[int]) -> None:
    labels = {"destination_workload_namespace": "shop", "destination_workload": "pay-v1"}
    rows = [row(str(sum(counts[: at + 1])), **labels, le=f"{at + 1}") for at in range(len(counts))]
    rows.append(row(str(sum(counts) + 3), **labels, le="+Inf"))
    status = [row("1", **labels, response_code="200")]

    tile = read_histories(status, rows, SCOPE, Grid.spanning(1000.0, 1000.0, 1.0))[PAY][0]

    assert tile.timed == sum(counts) + 3
    assert dict(tile.slower) == {at + 1.0: sum(counts[at + 1 :]) + 3 for at in range(len(counts))}


def test_a_metric_has_a_value_where_there_is_one_number() -> None:
    assert read_metric([row("1.5", "NaN", a="b")], GRID) == {1000.0: 1.5}
    assert read_metric([row("-Inf", "+Inf")], GRID) == {1000.0: -math.inf, 1001.0: math.inf}
    assert read_metric([], GRID) == {}


def test_one_series_after_another_is_one_number_at_a_time() -> None:
    first, second = row("1", pod="a"), {"metric": {"pod": "b"}, "values": [[1001, "2"]]}

    assert read_metric([first, second], GRID) == {1000.0: 1.0, 1001.0: 2.0}
    with pytest.raises(TelemetryAnswer, match=r"\{pod='a'\} and \{pod='b'\} among them: aggregate them to one"):
        read_metric([row("NaN", pod="a"), row("1", pod="b")], GRID)


@pytest.mark.parametrize("value", [None, 1.0, "many", "", [1]])
def test_a_metric_that_is_no_number_is_not_understood(value: Any) -> None:
    with pytest.raises(TelemetryAnswer, match="must be one number"):
        read_metric([row(value)], GRID)


@pytest.mark.parametrize(
    "read",
    [
        lambda rows: read_exporters(rows, ["n"]),
        lambda rows: read_steal(rows, Exporters({("", ""): frozenset({"n"})}), GRID),
        lambda rows: read_control_plane(rows, GRID),
        lambda rows: read_metric(rows, GRID),
        lambda rows: common_bounds(rows, SCOPE, GRID),
        lambda rows: list(series_of(rows)),
    ],
)
@pytest.mark.parametrize(
    "broken",
    [None, 7, {}, {"metric": {}}, {"metric": None, "values": []}, {"metric": {}, "values": [[1000]]},
     {"metric": {}, "histograms": [[1000, {}]]}, {"metric": {}, "values": [["soon", "1"]]}],
)  # fmt: skip
def test_rows_of_another_shape_are_never_taken_for_nothing(read: Callable[[list[Any]], Any], broken: Any) -> None:
    with pytest.raises(TelemetryAnswer):
        read([broken])
