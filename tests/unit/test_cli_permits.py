"""What `canary plan` says when the controller would not let the namespace use the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from canary.cli.permits import permit_cautions
from canary.errors import Forbidden, NotFound
from canary.model.policy import Policy
from canary.model.policy_yaml import parse_policy
from canary.shipped import shipped


class Namespaces:
    """A cluster in which namespaces have these labels; None for one that may not be read."""

    def __init__(self, **labels: dict[str, str] | None) -> None:
        self.labels = labels

    def get(self, _kind: Any, _namespace: Any, name: str) -> Any:
        if name not in self.labels:
            raise NotFound("no such namespace")
        if self.labels[name] is None:
            raise Forbidden("no")
        return {"metadata": {"name": name, "labels": self.labels[name]}}


def policy(name: str) -> Policy:
    return parse_policy((shipped("policies") / f"{name}.yaml").read_text(), name)


def said(cluster: Namespaces, namespace: str, policy: Policy, policies: Path | None = None) -> list[str]:
    cautions = permit_cautions(cluster, namespace, policy, policies)  # type: ignore[arg-type]  # what it needs
    assert {caution.about for caution in cautions} <= {"policy"}
    return [caution.text for caution in cautions]


@pytest.mark.parametrize("labels", [{}, {"canary.delivery/floor": ""}, {"canary.delivery/floor": "standard"}])
def test_nothing_is_said_where_nothing_is_wrong(labels: dict[str, str]) -> None:
    assert said(Namespaces(prod=labels), "prod", policy("standard")) == []
    assert said(Namespaces(), "not-there-yet", policy("standard")) == []


def test_a_policy_below_the_floor_is_said_with_the_field_and_both_values() -> None:
    (text,) = said(Namespaces(prod={"canary.delivery/floor": "strict"}), "prod", policy("lenient"))

    assert text.startswith(
        "The policy lenient is less strict than strict, the floor of namespace prod, so the rollout would wait, "
        "Stalled: strategy.weights gives the canary 20% after 0s, at most 5% by then"
    )


def test_a_policy_of_other_namespaces_is_said() -> None:
    own = policy("lenient").model_copy(update={"allowed_namespaces": ("sandbox", "team-*")})

    (text,) = said(Namespaces(prod={}), "prod", own)

    assert "is not for namespace prod (allowedNamespaces: sandbox, team-*)" in text


def test_what_the_caller_may_not_see_is_said_to_be_unknown() -> None:
    (text,) = said(Namespaces(prod=None), "prod", policy("lenient"))
    assert "is not known: you may not read the Namespace" in text

    (text,) = said(Namespaces(prod={"canary.delivery/floor": "gold"}), "prod", policy("lenient"))
    assert "is the policy gold, which is not among these policies" in text
