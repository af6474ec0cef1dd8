"""Which policy a namespace may use: allowedNamespaces, the floor its label names, and the controller's default."""

from __future__ import annotations

from pathlib import Path

import pytest

from canary.daemon.permits import Permits
from canary.daemon.policies import PolicyFolder
from canary.errors import FindingError
from canary.model.policy import OutlierDetection

POLICIES = {
    "strict": "strategy: {weights: [10, 100], hold: 5m}\nanalysis: {errorRate: {max: 1%}}\n"
    "outlierDetection: {consecutive5xxErrors: 3}\n",
    "loose": "strategy: {weights: [50, 100], hold: 1m}\nanalysis: {errorRate: {max: 5%}}\n",
    "of-the-mesh": "strategy: {weights: [10, 100], hold: 5m}\nanalysis: {errorRate: {max: 1%}}\n",
    "for-teams": "strategy: {weights: [10, 100], hold: 5m}\nallowedNamespaces: [team-*]\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> PolicyFolder:
    for name, text in POLICIES.items():
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\n{text}")
    loaded = PolicyFolder(tmp_path)
    loaded.reload()
    return loaded


def refusal(permits: Permits, name: str, namespace: str) -> FindingError:
    with pytest.raises(FindingError) as found:
        permits.policy(name, namespace)
    return found.value


def test_without_a_floor_every_policy_that_allows_the_namespace_may_be_used(folder: PolicyFolder) -> None:
    permits = Permits(folder, lambda _: None)

    assert permits.policy("loose", "prod").name == "loose"
    assert permits.usable("prod") == ("loose", "of-the-mesh", "strict")
    assert permits.usable("team-a") == ("for-teams", "loose", "of-the-mesh", "strict")


def test_a_policy_of_other_namespaces_is_refused_naming_those_that_may_be_used(folder: PolicyFolder) -> None:
    error = refusal(Permits(folder, lambda _: None), "for-teams", "prod")

    assert error.reason == "PolicyNotAllowed"
    assert str(error) == (
        'policy "for-teams" is not for namespace prod: its allowedNamespaces are team-*; policies that are: loose, '
        "of-the-mesh, strict"
    )


def test_a_policy_below_the_namespace_s_floor_is_refused_naming_the_field_and_both_values(
    folder: PolicyFolder,
) -> None:
    permits = Permits(folder, {"prod": "strict"}.get)

    error = refusal(permits, "loose", "prod")

    assert error.reason == "BelowFloor"
    assert str(error) == (
        'policy "loose" is less strict than "strict", the floor of namespace prod: strategy.weights gives the canary '
        "50% after 0s, at most 10% by then (and 1 more); policies that are: of-the-mesh, strict"
    )
    assert permits.policy("loose", "elsewhere").name == "loose"


def test_the_controller_s_default_holds_where_no_label_says_otherwise(folder: PolicyFolder) -> None:
    permits = Permits(folder, {"sandbox": "", "shop": "loose"}.get, default="strict")

    assert refusal(permits, "loose", "prod").reason == "BelowFloor"
    assert permits.policy("loose", "sandbox").name == "loose"
    assert permits.policy("loose", "shop").name == "loose"


def test_a_floor_that_does_not_exist_lets_nothing_through(folder: PolicyFolder) -> None:
    by_label = refusal(Permits(folder, {"prod": "strcit"}.get), "strict", "prod")
    by_default = refusal(Permits(folder, lambda _: None, default="strcit"), "strict", "prod")

    assert by_label.reason == by_default.reason == "UnknownFloor"
    assert 'the label canary.delivery/floor of namespace prod names the policy "strcit"' in str(by_label)
    assert 'the controller\'s --floor names the policy "strcit"' in str(by_default)
    assert "strict" in by_label.candidates


def test_thresholds_that_a_tenant_s_destination_rule_gives_cannot_undo_the_floor(folder: PolicyFolder) -> None:
    """A policy that leaves them out takes those of the service's own DestinationRule, which its owner may write."""
    permits = Permits(folder, {"prod": "strict"}.get)
    policy = permits.policy("of-the-mesh", "prod")
    tenants = policy.model_copy(update={"outlier_detection": OutlierDetection(consecutive5xx_errors=10_000)})

    with pytest.raises(FindingError) as error:
        permits.check(tenants, "prod", "DestinationRule prod/payment: spec.trafficPolicy.outlierDetection")

    assert error.value.reason == "BelowFloor"
    assert "consecutive5xxErrors is 10000, at most 3; its outlier thresholds are those of DestinationRule" in str(
        error.value
    )
    own = policy.model_copy(update={"outlier_detection": OutlierDetection(consecutive5xx_errors=3)})
    permits.check(own, "prod", "DestinationRule prod/payment")
