import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.errors import TelemetryAnswer
from canary.model.policy import GrpcStatus
from canary.model.verdict import ArmCounts
from canary.telemetry import StatusCounts, Tile, Workload, arm_counts
from canary.telemetry.queries import NEWEST, Scope
from canary.telemetry.tiles import Grid, read_statuses, read_tiles

PAY = Workload("shop", "pay-v1")
SCOPE = Scope(frozenset({PAY}), "source")
GRID = Grid.spanning(1000.0, 1002.0, 1.0)
TIMES = (1000, 1001, 1002)


def row(values: list[Any], workload: Workload = PAY, **labels: str) -> dict[str, Any]:
    name = {"destination_workload_namespace": workload.namespace, "destination_workload": workload.name}
    return {"metric": name | labels, "values": [list(pair) for pair in zip(TIMES, values, strict=False)]}


def instant(value: Any, **labels: str) -> dict[str, Any]:
    rows = row([value], **labels)
    return {"metric": rows["metric"], "value": rows["values"][0]}


counts = st.integers(min_value=0, max_value=10**12)
statuses = st.dictionaries(
    st.tuples(st.sampled_from(["0", "200", "404", "500", "503"]), st.sampled_from(["", "0", "4", "14"])), counts
)


@given(st.lists(statuses, min_size=3, max_size=3))
def test_every_count_lands_in_its_tile_whatever_the_order_of_rows(per_tile: list[dict[tuple[str, str], int]]) -> None:
    rows = []
    for index, counted in enumerate(per_tile):
        for (code, grpc), count in counted.items():
            labels = {"response_code": code} | ({"grpc_response_status": grpc} if grpc else {})
            rows.insert(0, row([], **labels) | {"values": [[TIMES[index], f"{count}"]]})
    rows.append(row([], **{NEWEST: "1"}) | {"values": [[1001, "1000.4"]]})

    batch = read_tiles(rows, [], SCOPE, GRID, [])

    assert [dict(tile.status) for tile in batch.tiles[PAY]] == per_tile
    assert [(tile.start, tile.end) for tile in batch.tiles[PAY]] == [(999, 1000), (1000, 1001), (1001, 1002)]
    assert batch.seen == {PAY}


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_slower_is_what_the_histogram_holds_above_the_bound(fast: int, medium: int, slow: int) -> None:
    timed = fast + medium + slow
    latency = [
        row([f"{fast}"], le="500.0"),
        row([f"{fast + medium}"], le="1000"),
        row([f"{timed:e}" if timed % 10**6 == 0 else f"{timed}"], le="+Inf"),
    ]

    batch = read_tiles([row(["1"], response_code="200")], latency, SCOPE, GRID, [500.0, 1000.0])

    first, second, _ = batch.tiles[PAY]
    assert (first.timed, dict(first.slower)) == (timed, {500.0: medium + slow, 1000.0: slow})
    assert (second.timed, dict(second.slower)) == (0, {500.0: 0, 1000.0: 0})


@given(st.one_of(st.floats(), st.text(), st.none(), st.integers(), st.lists(st.integers()), st.booleans()))
def test_a_value_is_a_whole_number_or_an_error(value: Any) -> None:
    text = repr(value) if isinstance(value, float) else value
    try:
        read = read_statuses([instant(text, response_code="200")], SCOPE)[PAY].by_status["200", ""]
    except TelemetryAnswer:
        return
    assert isinstance(text, str)
    assert read == pytest.approx(float(text), rel=1e-6, abs=1e-6)
    assert read >= 0


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1.5", "", "many", 7, None])
def test_what_is_not_a_count_is_an_error(value: Any) -> None:
    with pytest.raises(TelemetryAnswer, match="shop/pay-v1"):
        read_statuses([instant(value, response_code="200")], SCOPE)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        {"metric": {}},
        {"metric": {}, "values": []},
        {"metric": {"destination_workload_namespace": "shop", "destination_workload": "pay-v1"}},
        row(["1"]) | {"values": [[1000]]},
        row(["1"]) | {"values": [["soon", "1"]]},
        row(["1"]) | {"values": None},
        row(["1"]),
        row(["1"], response_code="2xx"),
        row(["1"], response_code="200") | {"values": [[1000.5, "1"]]},
        row(["1"], response_code="200") | {"values": [[2000, "1"]]},
    ],
)
def test_a_row_of_another_shape_is_an_error(broken: Any) -> None:
    with pytest.raises(TelemetryAnswer):
        read_tiles([row(["1"], response_code="200"), broken], [], SCOPE, GRID, [])


def test_a_bound_that_is_no_bucket_is_an_error_and_not_a_hundred_percent_slow() -> None:
    latency = [row(["100"], le="+Inf"), row(["90"], le="500")]

    with pytest.raises(TelemetryAnswer, match="no bucket le=400"):
        read_tiles([row(["1"], response_code="200")], latency, SCOPE, GRID, [400.0])


def test_rows_of_workloads_that_only_the_cross_product_selects_are_passed_over() -> None:
    stranger = row(["7"], Workload("bank", "pay-v1"), response_code="200")

    batch = read_tiles([stranger], [], SCOPE, GRID, [])

    assert batch.tiles == {}
    assert batch.newest_end is None


@pytest.mark.parametrize(("namespace", "believed"), [("shop", True), ("bank", False), (None, False)])
def test_a_called_pods_series_counts_only_from_its_own_namespace(namespace: str | None, believed: bool) -> None:
    scope = Scope(frozenset({PAY}), "destination")
    labels = {"response_code": "200"} | ({"namespace": namespace} if namespace else {})

    batch = read_tiles([row(["7"], **labels)], [], scope, GRID, [])

    assert (PAY in batch.tiles) is believed


@pytest.mark.parametrize(
    ("samples", "newest"),
    [
        (["999.5", "1000.5", "1001.5"], 1002.0),
        (["999.5", "1000.5", "1000.5"], 1001.0),  # remembered, but not scraped again
        (["998.9", "999.0", "999.0"], None),
        (["1000", "1000", "1000"], 1000.0),
    ],
)
def test_the_newest_tile_is_the_last_one_scraped_in_not_the_last_one_remembered(
    samples: list[str], newest: float | None
) -> None:
    batch = read_tiles([row(["0", "0", "0"], response_code="200"), row(samples, **{NEWEST: "1"})], [], SCOPE, GRID, [])

    assert batch.newest_end == newest
    assert batch.newest_ends == ({PAY: newest} if newest else {})


@given(statuses)
def test_errors_are_5xx_and_chosen_grpc_statuses_and_code_0_is_neither(by_status: dict[tuple[str, str], int]) -> None:
    chosen = {GrpcStatus.UNAVAILABLE}

    arm = arm_counts(StatusCounts(by_status), chosen)

    expected = {status: count for status, count in by_status.items() if status[0] != "0"}
    assert arm.requests == sum(expected.values())
    assert arm.errors == sum(n for (code, grpc), n in expected.items() if code in ("500", "503") or grpc == "14")


def test_a_tiles_latency_goes_into_the_arm_as_it_is() -> None:
    tile = Tile(0, 1, {("503", ""): 2, ("200", ""): 8}, timed=8, slower={500.0: 3})

    assert arm_counts(tile) == ArmCounts(10, 2, 8, {500.0: 3})


@given(st.integers(1, 60_000), st.integers(1, 10**7), st.integers(0, 2000), st.integers(1, 700))
def test_pieces_cover_the_range_once_and_ends_stay_exact(step_ms: int, first: int, more: int, longest: int) -> None:
    tile_s = step_ms / 1000
    grid = Grid.spanning(first * step_ms / 1000, (first + more) * step_ms / 1000, tile_s)

    ends = [piece.end(index) for piece in grid.pieces(longest) for index in range(piece.count)]

    assert ends == [grid.end(index) for index in range(grid.count)]
    assert [grid.index(end) for end in ends] == list(range(more + 1))
    assert all(math.isclose(end, (first + index) * tile_s) for index, end in enumerate(ends))


@pytest.mark.parametrize(
    ("first", "last", "tile_s"),
    [(1000.5, 1002, 1), (1000, 1002.5, 1), (1002, 1000, 1), (1000, 1002, 0), (1, 2, 0.0005)],
)
def test_ends_that_are_no_multiples_of_the_tile_are_refused(first: float, last: float, tile_s: float) -> None:
    with pytest.raises(ValueError, match="tile"):
        Grid.spanning(first, last, tile_s)
