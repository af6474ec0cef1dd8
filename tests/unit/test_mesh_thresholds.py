"""The outlier thresholds of a service, read from its DestinationRules as Istio merges them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.errors import FindingError
from canary.mesh.istio.router import IstioRouter
from canary.mesh.router import MeshView, Thresholds
from canary.model.policy import OutlierDetection
from canary.model.route import Arm, Route

FULL = {"consecutive5xxErrors": 3, "interval": "5s", "baseEjectionTime": "1m", "maxEjectionPercent": 50}
OTHER = {"consecutive5xxErrors": 7}


def rule(
    policy: Any = None, *, name: str = "payment", made: str = "2026-01-01T00:00:00Z", **subsets: Any
) -> dict[str, Any]:
    """A DestinationRule; `policy` is its trafficPolicy, each keyword a subset's."""
    listed = [
        {"name": subset, "labels": {"version": subset}} | ({"trafficPolicy": given} if given else {})
        for subset, given in subsets.items()
    ]
    spec = {"host": "payment", "subsets": listed} | ({"trafficPolicy": policy} if policy else {})
    return {"metadata": {"name": name, "namespace": "shop", "creationTimestamp": made}, "spec": spec}


def read(*rules: dict[str, Any], port: int | None = 80, ports: tuple[int, ...] = (80,)) -> Thresholds | None:
    arms = [Arm(f"payment-{version}", version, "version", version) for version in ("v1", "v2")]
    route = Route("shop", "payment", "payment", "", "payment", port, *arms)
    service = {
        "metadata": {"name": "payment", "namespace": "shop"},
        "spec": {"ports": [{"port": number} for number in ports]},
    }
    return IstioRouter().thresholds(MeshView("shop", destination_rules=rules, services=[service]), route)


def ejecting(**block: Any) -> dict[str, Any]:
    return {"outlierDetection": block}


def test_the_rules_own_block_is_taken_and_its_place_is_said() -> None:
    found = read(rule(ejecting(**FULL), v1=None))

    assert found == Thresholds(
        OutlierDetection(
            consecutive5xx_errors=3,
            interval=timedelta(seconds=5),
            base_ejection_time=timedelta(minutes=1),
            max_ejection_percent=50,
        ),
        "DestinationRule shop/payment: spec.trafficPolicy.outlierDetection",
    )


@pytest.mark.parametrize("block", [{}, {"interval": None}, {"splitExternalLocalOriginErrors": True}])
def test_fields_that_are_not_set_are_istios_own_and_not_ours(block: dict[str, Any]) -> None:
    found = read(rule(ejecting(**block)))

    assert found is not None
    assert found.outlier_detection.document() == {
        "consecutive5xxErrors": 5, "interval": "10s", "baseEjectionTime": "30s", "maxEjectionPercent": 10,
    }  # fmt: skip


def test_without_a_block_there_are_none() -> None:
    assert read() is None
    assert read(rule(v1=None, v2=None)) is None
    assert read(rule({"connectionPool": {"tcp": {"maxConnections": 1}}}, v2={"tls": {"mode": "DISABLE"}})) is None


def test_the_canarys_subset_wins_block_by_block_and_stables_says_nothing() -> None:
    found = read(rule(ejecting(**FULL), v1=ejecting(consecutive5xxErrors=9), v2=ejecting(**OTHER)))
    inherited = read(rule(ejecting(**FULL), v1=ejecting(**OTHER), v2={"connectionPool": {}}))

    assert found is not None
    assert found.outlier_detection.consecutive5xx_errors == 7
    assert found.outlier_detection.interval == timedelta(seconds=10), "a block is not mixed with another"
    assert found.source == "DestinationRule shop/payment: spec.subsets[1].trafficPolicy.outlierDetection"
    assert inherited is not None
    assert inherited.outlier_detection.consecutive5xx_errors == 3


def test_of_several_rules_the_oldest_with_a_policy_and_the_first_subset_of_the_name_win() -> None:
    first = rule(name="a", made="2026-01-01T00:00:00Z", v1=None, v2=None)
    second = rule(ejecting(**FULL), name="b", made="2026-01-02T00:00:00Z", v2=ejecting(**OTHER))
    third = rule(ejecting(**OTHER), name="c", made="2026-01-03T00:00:00Z")

    found = read(third, second, first)

    assert found is not None
    assert found.outlier_detection.consecutive5xx_errors == 3
    assert "shop/b" in found.source


def test_another_services_rule_and_another_namespaces_are_not_read() -> None:
    other = rule(ejecting(**FULL))
    other["spec"]["host"] = "invoice"
    foreign = rule(ejecting(**FULL))
    foreign["metadata"]["namespace"] = "bank"

    assert read(other, foreign) is None


def at_port(number: int, block: Any = None) -> dict[str, Any]:
    return {"port": {"number": number}} | ({"outlierDetection": block} if block is not None else {})


def test_settings_for_the_port_replace_those_without_one() -> None:
    everywhere = {**ejecting(**FULL), "portLevelSettings": [at_port(81, {}), at_port(80, OTHER)]}
    silent = {**ejecting(**FULL), "portLevelSettings": [at_port(80)]}

    found = read(rule(everywhere))
    assert found is not None
    assert found.outlier_detection.consecutive5xx_errors == 7
    assert found.source.endswith("spec.trafficPolicy.portLevelSettings[1].outlierDetection")
    assert read(rule(silent)) is None, "Istio does not inherit there"
    elsewhere = read(rule(silent), port=82)
    assert elsewhere is not None
    assert elsewhere.outlier_detection.consecutive5xx_errors == 3


def test_a_subsets_settings_for_the_port_win_over_all() -> None:
    found = read(rule(ejecting(**FULL), v2={**ejecting(), "portLevelSettings": [at_port(80, OTHER)]}))
    silent = read(rule(ejecting(**FULL), v2={**ejecting(**OTHER), "portLevelSettings": [at_port(80)]}))

    assert found is not None
    assert found.outlier_detection.consecutive5xx_errors == 7
    assert silent is not None
    assert silent.outlier_detection.consecutive5xx_errors == 7


def test_a_route_without_a_port_goes_to_the_services_only_one() -> None:
    by_port = rule({**ejecting(**FULL), "portLevelSettings": [at_port(80, OTHER)]})

    only, several = read(by_port, port=None), read(by_port, port=None, ports=(80, 81))

    assert only is not None
    assert only.outlier_detection.consecutive5xx_errors == 7
    assert several is not None
    assert several.outlier_detection.consecutive5xx_errors == 3
    nameless = {**ejecting(**FULL), "portLevelSettings": [{"outlierDetection": OTHER}]}
    unknown = read(rule(nameless), port=None, ports=())
    assert unknown is not None
    assert unknown.outlier_detection.consecutive5xx_errors == 3


def test_a_rule_that_ejects_nobody_for_5xx_leaves_us_our_own_number() -> None:
    found = read(rule(ejecting(consecutive5xxErrors=0, consecutiveGatewayErrors=2, interval="1s")))

    assert found is not None
    assert found.outlier_detection.consecutive5xx_errors == 5
    assert found.outlier_detection.interval == timedelta(seconds=1)
    assert found.source.endswith("whose consecutive5xxErrors: 0 ejects nobody: 5 is taken")


def test_a_share_of_0_is_not_set_for_istio() -> None:
    found = read(rule(ejecting(maxEjectionPercent=0)))

    assert found is not None
    assert found.outlier_detection.max_ejection_percent == 10


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"interval": "soon"}, 'outlierDetection.interval must be a duration like "500ms"'),
        ({"interval": "0s"}, "outlierDetection.interval must be at least 1ms"),
        ({"baseEjectionTime": 30}, "outlierDetection.baseEjectionTime must be a duration"),
        ({"consecutive5xxErrors": "many"}, "outlierDetection.consecutive5xxErrors must be a valid integer"),
        ({"consecutive5xxErrors": 4294967295}, "less than or equal to 10000, not 4294967295"),
        ({"maxEjectionPercent": 101}, "less than or equal to 100, not 101"),
        ({"maxEjectionPercent": -1}, "greater than or equal to 0, not -1"),
        ([1], "outlierDetection must be a mapping, not [1]"),
        ("on", "outlierDetection must be a mapping, not 'on'"),
    ],
)
def test_a_field_that_cannot_be_read_is_a_finding_that_names_it(block: Any, says: str) -> None:
    with pytest.raises(FindingError) as raised:
        read(rule({"outlierDetection": block}))

    assert raised.value.reason == "BadOutlierDetection"
    assert says in str(raised.value)
    assert str(raised.value).startswith("DestinationRule shop/payment: spec.trafficPolicy.outlierDetection")
    assert "give the policy an outlierDetection of its own" in str(raised.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FULL, "outlierDetection", "portLevelSettings", "port", "number"]), inner)
    ),
    max_leaves=12,
)


@given(anything, anything)
def test_whatever_stands_there_is_thresholds_none_or_a_finding(policy: Any, own: Any) -> None:
    try:
        found = read(rule(policy, v2=own), rule({"outlierDetection": policy}))
    except FindingError:
        return
    assert found is None or found.outlier_detection.interval >= timedelta(milliseconds=1)
