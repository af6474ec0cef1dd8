from typing import Any

import pytest

from canary.errors import TelemetryAnswer
from canary.telemetry import SubsetName
from canary.telemetry.outliers import EJECTING, OUT_OF, SEEN, ejections_query, read_ejections, subset_of
from canary.telemetry.tiles import Grid

V2 = SubsetName("shop", "pay", "v2")
GRID = Grid.spanning(1000.0, 1000.0, 1.0)
NAME = "outbound|80|v2|pay.shop.svc.cluster.local"


def row(question: str, value: Any, caller: str = "", cluster: str = NAME, namespace: str = "front") -> dict[str, Any]:
    target = {"job": "envoy", "instance": caller, "namespace": namespace} if caller else {}
    return {"metric": {"canary_question": question, "cluster_name": cluster} | target, "values": [[1000, value]]}


def read(*rows: dict[str, Any], own_namespace_only: bool = False) -> tuple[int, int] | None:
    return read_ejections(rows, [V2], GRID, own_namespace_only=own_namespace_only).get(V2, {}).get(1000.0)


@pytest.mark.parametrize(
    ("cluster", "subset"),
    [
        (NAME, V2),
        ("outbound|8080||pay.shop.svc.example.org", SubsetName("shop", "pay", "")),
        ("inbound|80||pay.shop.svc.cluster.local", None),
        ("inbound-vip|80|http/v2|pay.shop.svc.cluster.local", None),
        ("outbound|443||www.example.org", None),
        ("outbound|80|v2|pay.shop.svc", None),
        ("outbound|80|v2", None),
        ("xds-grpc", None),
        ("BlackHoleCluster", None),
        ("", None),
    ],
)
def test_a_cluster_is_a_subset_only_as_istiod_names_it(cluster: str, subset: SubsetName | None) -> None:
    assert subset_of(cluster) == subset


def test_nobody_ejects_is_none_of_the_most_hosts_that_anybody_knows() -> None:
    assert read(row(SEEN, "3")) == (0, 3)
    assert read() is None


def test_the_worst_view_counts_and_of_equal_ones_the_larger() -> None:
    rows = [row(SEEN, "4")]
    for caller, ejected, members in (("a", "1", "2"), ("b", "2", "4"), ("c", "1", "4")):
        rows += [row(EJECTING, ejected, caller), row(OUT_OF, members, caller)]

    assert read(*rows) == (2, 4)


def test_ports_add_up_also_where_only_one_of_them_ejects() -> None:
    other = NAME.replace("80", "8080")

    assert read(row(SEEN, "2"), row(SEEN, "2", cluster=other)) == (0, 4)
    assert read(
        row(SEEN, "2"), row(EJECTING, "2", "a"), row(OUT_OF, "2", "a"), row(OUT_OF, "2", "a", cluster=other)
    ) == (2, 4)


def test_a_caller_elsewhere_is_not_believed_where_only_the_own_namespace_is() -> None:
    rows = [row(SEEN, "2", "a", namespace="shop"), row(EJECTING, "2", "a"), row(OUT_OF, "2", "a")]

    assert read(*rows) == (2, 2)
    assert read(*rows, own_namespace_only=True) == (0, 2)


@pytest.mark.parametrize("value", ["0.5", "NaN", "-1", "+Inf", None])
def test_hosts_are_whole_or_the_answer_is_not_understood(value: Any) -> None:
    with pytest.raises(TelemetryAnswer, match="shop/pay subset 'v2'"):
        read(row(SEEN, value))


@pytest.mark.parametrize("broken", [{"metric": {}, "values": []}, row("nothing", "1"), row(SEEN, "1") | {"values": 7}])
def test_rows_of_another_shape_are_not_understood(broken: dict[str, Any]) -> None:
    with pytest.raises(TelemetryAnswer):
        read(broken)


def test_names_are_literals_in_the_query_and_targets_are_matched_where_they_must_be() -> None:
    hostile = SubsetName("sh.op", 'p"ay', "v|2")

    query = ejections_query([hostile, V2], ["front"], own_namespace_only=False)

    pattern = r'"outbound[|][0-9]+[|](?:(?:v\\|2)[|]p\"ay\\.sh\\.op|(?:v2)[|]pay\\.shop)[.]svc[.].+"'
    assert query.count(f'{{cluster_name=~{pattern}, namespace=~"front"}}') == 6
    assert ", namespace=~" not in ejections_query([V2], [], own_namespace_only=True)
