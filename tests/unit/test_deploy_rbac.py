"""The shipped roles: exactly what the controller needs, the same for one namespace, and as docs/rights.md says."""

from __future__ import annotations

import re
from pathlib import Path

from canary.daemon.needs import NEEDS
from tests.real.rights.roles import CLUSTER, NAMESPACED, Grant, documents, grants

PAGE = Path(__file__).parents[2] / "docs" / "rights.md"


def test_every_verb_of_the_roles_is_one_that_the_controller_knows_it_needs_and_the_other_way_round() -> None:
    known = [Grant(need.role, need.right.resource, need.right.verb) for need in NEEDS]
    assert sorted(known) == sorted(grants())
    assert len(set(known)) == len(known)


def test_the_roles_for_one_namespace_are_those_of_the_cluster_but_for_what_belongs_to_it() -> None:
    everywhere = {(grant.resource, grant.verb, grant.role == "canary-own") for grant in grants(CLUSTER)}
    here = {(grant.resource, grant.verb, grant.role == "canary-own") for grant in grants(NAMESPACED)}
    assert everywhere - here == {("namespaces", "list", False), ("namespaces", "watch", False)}
    assert here <= everywhere
    assert {one["kind"] for one in documents(*NAMESPACED, "namespaced/users.yaml")} == {"Role", "RoleBinding"}


def test_no_role_reads_secrets_or_writes_workloads_or_has_a_wildcard() -> None:
    for grant in [*grants(CLUSTER), *grants(NAMESPACED)]:
        assert grant.resource != "secrets"
        assert "*" not in (grant.resource, grant.verb)
        if grant.resource.endswith(".apps") or grant.resource in ("pods", "services", "namespaces"):
            assert grant.verb in ("list", "watch")


def test_people_get_no_right_on_a_status() -> None:
    for files in (("users.yaml",), ("namespaced/users.yaml",)):
        assert not [grant for grant in grants(files) if "/" in grant.resource or "*" in grant.resource]


def test_the_page_lists_each_verb_once_with_its_role_and_what_is_lost_without_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` *\| `([^`]+)` *\| `([^`]+)` *\| ([^|]+?) *\| ([^|]+?) *\|$", text, re.M)
    said = [
        (Grant(role, resource, verb), without)
        for role, resource, verbs, _, without in rows
        for verb in verbs.split(", ")
    ]
    known = [(Grant(need.role, need.right.resource, need.right.verb), need.without) for need in NEEDS]
    assert sorted(said) == sorted(known)
    assert all(why.strip() for *_, why, _ in rows)
