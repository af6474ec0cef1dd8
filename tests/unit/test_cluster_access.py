"""What a refusal says about the right that is missing, and what a list of rules allows."""

from __future__ import annotations

from typing import Any

import pytest

from canary.cluster.access import Right, allows
from canary.cluster.answers import refusal
from canary.errors import Forbidden

PATCH_STATUS = Right("patch", "canary.delivery", "canaryrollouts", "status")
WATCH_PODS = Right("watch", "", "pods")


def refused(message: str, status: int = 403) -> Forbidden:
    error = refusal("patch something", status, {"message": message}, {}, write=True)
    assert isinstance(error, Forbidden)
    return error


def test_rbac_names_the_right_that_is_missing_and_who_lacks_it() -> None:
    error = refused(
        'canaryrollouts.canary.delivery "payment-v2-1" is forbidden: User "system:serviceaccount:canary-system:canary" '
        'cannot patch resource "canaryrollouts/status" in API group "canary.delivery" in the namespace "shop"'
    )

    assert (error.verb, error.resource, error.namespace) == ("patch", PATCH_STATUS.resource, "shop")
    assert error.user == "system:serviceaccount:canary-system:canary"
    assert error.policy == ""


def test_a_right_on_everything_has_no_namespace() -> None:
    error = refused('pods is forbidden: User "x" cannot watch resource "pods" in API group "" at the cluster scope')

    assert (error.verb, error.resource, error.namespace) == ("watch", WATCH_PODS.resource, "")


def test_an_admission_policy_is_told_from_a_missing_right() -> None:
    error = refused(
        "virtualservices.networking.istio.io \"payment\" is forbidden: ValidatingAdmissionPolicy 'canary-route-guard' "
        "with binding 'canary-route-guard' denied request: the canary controller changes http routes only"
    )

    assert error.policy == "canary-route-guard"
    assert (error.verb, error.resource) == ("", "")


@pytest.mark.parametrize(
    ("message", "status"), [("Unauthorized", 401), ('admission webhook "x" denied the request: no', 403), ("", 403)]
)
def test_any_other_no_is_no_missing_right(message: str, status: int) -> None:
    error = refused(message, status)

    assert (error.verb, error.resource, error.policy) == ("", "", "")


@pytest.mark.parametrize(
    ("right", "rule", "expected"),
    [
        (WATCH_PODS, {"verbs": ["get", "watch"], "apiGroups": [""], "resources": ["pods"]}, True),
        (WATCH_PODS, {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, True),
        (WATCH_PODS, {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, False),
        (WATCH_PODS, {"verbs": ["watch"], "apiGroups": ["apps"], "resources": ["pods"]}, False),
        (WATCH_PODS, {"verbs": ["watch"], "apiGroups": [""], "resources": ["pods/status"]}, False),
        (WATCH_PODS, {"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["one"]}, False),
        (WATCH_PODS, {"verbs": ["watch"], "nonResourceURLs": ["/pods"]}, False),
        (PATCH_STATUS, {"verbs": ["patch"], "apiGroups": ["canary.delivery"], "resources": ["*/status"]}, True),
        (PATCH_STATUS, {"verbs": ["patch"], "apiGroups": ["canary.delivery"], "resources": ["*"]}, True),
        (PATCH_STATUS, {"verbs": ["patch"], "apiGroups": ["canary.delivery"], "resources": ["canaryrollouts"]}, False),
    ],
)
def test_rules_allow_what_rbac_would(right: Right, rule: dict[str, Any], expected: bool) -> None:
    assert allows([rule], right) is expected
    assert allows([], right) is False
