"""What is asked about rights, how often, and what is said of missing ones. The API server is a list of rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from canary.cluster.access import ACCESS_REVIEW, NOWHERE, RULES_REVIEW, WHO_AM_I
from canary.cluster.gateway import Gateway
from canary.cluster.kinds import Kind
from canary.daemon.needs import NEEDS, Need, Role, of
from canary.daemon.questions import EXACT_S
from canary.daemon.rights import AT_ONCE, FORGET_S, Rights
from canary.errors import FindingError, Forbidden, NotFound, Unavailable
from canary.model.rollout import Rollout, RolloutSpec, RolloutStatus

OWN = "canary-system"
ACCOUNT = "system:serviceaccount:canary-system:canary"
MOVE = next(need for need in of(Role.WRITES) if str(need.right) == "patch virtualservices.networking.istio.io")
WATCH_PODS = next(need for need in of(Role.READS) if str(need.right) == "watch pods")
KEEP_EVIDENCE = next(need for need in of(Role.WRITES) if str(need.right) == "create configmaps")


def rule(need: Need) -> dict[str, Any]:
    right = need.right
    return {"verbs": [right.verb], "apiGroups": [right.group], "resources": [right.rbac_resource]}


class Api:
    """Rules as RBAC has them, and a clock. `otherwise` is what another authorizer allows."""

    timeout_seconds = 1.0

    def __init__(self) -> None:
        self.now = 0.0
        self.everywhere = set(of(Role.READS, Role.REPORTS))
        self.bound: dict[str, set[Need]] = {OWN: set(of(Role.OWN))}
        self.otherwise = False
        self.asked: list[tuple[Kind, Any]] = []
        self.fails: Exception | None = None

    def review(self, kind: Kind, spec: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((kind, spec.get("namespace")))
        if self.fails:
            raise self.fails
        if kind is WHO_AM_I:
            return {"userInfo": {"username": ACCOUNT}}
        if kind is ACCESS_REVIEW:
            return {"allowed": self.otherwise}
        needs = self.everywhere | self.bound.get(spec["namespace"], set())
        return {"resourceRules": [rule(need) for need in needs]}


class World:
    """Rights over an Api; `spaces` release something."""

    def __init__(self, *spaces: str, served: str | None = None, own: str = OWN) -> None:
        self.api = Api()
        self.spaces = list(spaces)
        self.changed: list[str] = []
        for space in spaces:
            self.api.bound[space] = set(of(Role.WRITES))
        self.rights = Rights(
            cast(Gateway, self.api), served=served, own=own, releasing=lambda: self.spaces,
            on_change=self.changed.append, clock=lambda: self.api.now,
        )  # fmt: skip

    def round(self, times: int = 1) -> list[tuple[Kind, Any]]:
        """What was asked in so many rounds."""
        for _ in range(times):
            before = len(self.api.asked)
            self.api.now += 5
            self.rights.round()
        return self.api.asked[before:]


def rollout(namespace: str = "shop") -> Rollout:
    return Rollout(
        namespace=namespace, name="payment-v2-v2a-1", uid="1", resource_version="1", generation=1,
        created=datetime(2026, 1, 1, tzinfo=UTC), deleting=False, finalizers=(),
        spec=RolloutSpec(target="payment-v2", policy_name="standard"), status=RolloutStatus(),
    )  # fmt: skip


def test_while_nothing_is_missing_a_round_costs_two_questions_however_many_namespaces_there_are() -> None:
    world = World(*(f"shop-{number}" for number in range(50)))
    first = world.round()
    later = [world.round() for _ in range(50)]

    assert [kind for kind, _ in first] == [WHO_AM_I, RULES_REVIEW, RULES_REVIEW, RULES_REVIEW]
    assert [where for _, where in first][1:3] == [OWN, NOWHERE]
    exact = [asked for asked in later if (RULES_REVIEW, NOWHERE) in asked]
    assert len(exact) == round(50 * 5 / EXACT_S)
    assert all(len(asked) == 2 for asked in later if asked not in exact)
    assert {where for asked in later for _, where in asked} >= set(world.spaces), "everybody has a turn"
    assert (world.rights.not_ready(), world.rights.notes(), world.rights.missing()) == ("", "", [])
    assert world.changed == []


def test_a_right_that_is_taken_away_is_named_with_its_rule_until_it_is_given_back() -> None:
    world = World("shop")
    world.round()
    world.api.everywhere.remove(WATCH_PODS)
    world.round()

    assert world.rights.not_ready() == (
        "may not watch pods in all namespaces: what is known of them grows old; ClusterRole canary-reads needs the "
        'rule {apiGroups: [""], resources: [pods], verbs: [watch]}'
    )
    assert world.rights.missing() == [("watch", "pods", "")]
    with pytest.raises(FindingError, match="may not watch pods"):
        world.rights.check("shop")

    world.api.everywhere.add(WATCH_PODS)
    world.round()
    assert world.rights.not_ready() == ""
    world.rights.check("shop")
    assert world.changed == ["", ""]


def test_a_right_in_our_own_namespace_is_none_in_all_of_them() -> None:
    world = World()
    world.api.everywhere.remove(WATCH_PODS)
    world.api.bound[OWN].add(WATCH_PODS)
    world.round()

    assert "may not watch pods in all namespaces" in world.rights.not_ready()


def test_a_namespace_that_gives_nothing_is_told_how_to_and_leaves_the_controller_ready() -> None:
    world = World("shop", "closed")
    world.api.bound["closed"] = set()
    world.round(2)

    assert world.rights.not_ready() == ""
    assert world.rights.notes() == (
        "canary may not patch virtualservices.networking.istio.io, nor write anything else, in namespace closed; its "
        "admin lets it by: kubectl create rolebinding canary-writes --clusterrole=canary-writes "
        "--serviceaccount=canary-system:canary -n closed"
    )
    with pytest.raises(FindingError, match="--serviceaccount=canary-system:canary -n closed") as caught:
        world.rights.check("closed")
    assert caught.value.reason == "RightsMissing"
    world.rights.check("shop")


def test_our_own_namespace_is_not_taken_for_one_that_lets_us_in_by_the_role_that_it_has_anyway() -> None:
    world = World()
    world.spaces = [OWN]
    world.round()

    assert "kubectl create rolebinding canary-writes" in world.rights.notes()


def test_one_namespace_with_a_lesser_binding_is_its_own_affair_but_all_of_them_are_the_roles() -> None:
    world = World("shop", "odd")
    world.api.bound["odd"].remove(MOVE)
    world.round(3)
    assert world.rights.not_ready() == ""
    assert "may not patch virtualservices.networking.istio.io in namespace odd" in world.rights.notes()

    world.api.bound["shop"].remove(MOVE)
    world.round(3)
    assert "ClusterRole canary-writes needs the rule" in world.rights.not_ready()


def test_evidence_that_cannot_be_kept_hinders_no_rollout() -> None:
    world = World("shop", "other")
    world.api.bound["shop"].remove(KEEP_EVIDENCE)
    world.round(3)

    assert "may not create configmaps in namespace shop: no evidence is kept; releases go on" in world.rights.notes()
    world.rights.check("shop")
    assert world.rights.problem(rollout()) is None


def test_what_another_authorizer_allows_is_not_missing_and_not_asked_for_at_each_round() -> None:
    world = World("shop")
    world.api.everywhere.clear()
    world.api.bound.clear()
    world.api.otherwise = True
    first = world.round()
    second = world.round()

    assert (world.rights.not_ready(), world.rights.notes()) == ("", "")
    assert len([kind for kind, _ in first if kind is ACCESS_REVIEW]) == len(NEEDS)
    assert [kind for kind, _ in second if kind is ACCESS_REVIEW] == []


def test_a_namespace_that_is_new_is_asked_about_when_its_first_rollout_begins() -> None:
    world = World()
    world.round()
    world.api.asked.clear()

    with pytest.raises(FindingError, match="in namespace fresh"):
        world.rights.check("fresh")
    with pytest.raises(FindingError):
        world.rights.check("fresh")
    assert len([where for kind, where in world.api.asked if kind is RULES_REVIEW]) == 1


@pytest.mark.parametrize("error", [NotFound("no such review"), Unavailable("away")])
def test_where_nobody_answers_nothing_is_said_to_be_missing(error: Exception) -> None:
    world = World("shop")
    world.api.fails = error
    world.rights.check("shop")

    assert (world.rights.not_ready(), world.rights.notes()) == ("", "")


def test_an_api_server_that_is_away_for_a_while_changes_nothing_of_what_is_known() -> None:
    world = World("shop")
    world.api.bound["shop"].remove(MOVE)
    world.round()
    said = world.rights.not_ready()
    world.api.fails = Unavailable("away")

    with pytest.raises(Unavailable):
        world.round()
    assert world.rights.not_ready() == said != ""


def test_so_many_namespaces_that_lack_something_take_turns() -> None:
    world = World(*(f"closed-{number}" for number in range(20)))
    for space in world.spaces:
        world.api.bound[space] = set()
    for _ in range(20):
        world.round()
    asked = {where for _ in range(5) for kind, where in world.round() if kind is RULES_REVIEW and where != OWN}

    assert asked >= set(world.spaces)
    assert len([1 for kind, where in world.round() if kind is RULES_REVIEW and where != OWN]) <= AT_ONCE + 1


def test_a_refused_write_is_said_on_its_rollout_until_one_goes_through() -> None:
    world = World("shop")
    world.round()
    denied = Forbidden("cannot patch it: the guard said no", status=403, policy="canary-route-guard")

    found = world.rights.refused(rollout(), denied)
    assert (found.reason, found.sentence) == ("AdmissionDenied", "cannot patch it: the guard said no")
    world.round()
    assert world.rights.problem(rollout()) == found, "no right is missing, so only a write that goes through ends it"

    world.rights.went_through(rollout())
    assert world.rights.problem(rollout()) is None


def test_what_was_refused_to_a_rollout_that_is_gone_is_forgotten() -> None:
    world = World("shop")
    world.rights.refused(rollout(), Forbidden("no", status=403))
    world.round()
    assert world.rights.problem(rollout()) is not None

    world.api.now += FORGET_S
    world.round()
    assert world.rights.problem(rollout()) is None


def test_a_write_that_lacked_a_right_is_forgotten_when_the_right_is_there() -> None:
    world = World("shop")
    world.round()
    error = Forbidden(
        "cannot patch", status=403, verb="patch", resource=MOVE.right.resource, namespace="shop", user=ACCOUNT
    )
    found = world.rights.refused(rollout(), error)

    assert found.reason == "RightsMissing"
    assert "may not patch virtualservices.networking.istio.io in namespace shop" in found.sentence
    assert world.rights.problem(rollout()) == found
    world.round()
    assert world.rights.problem(rollout()) is None


def test_in_one_namespace_everything_missing_is_the_roles_there() -> None:
    world = World(served="shop", own="shop")
    world.api.everywhere.clear()
    world.api.bound["shop"] = {need for need in NEEDS if not need.of_cluster and need is not MOVE}
    asked = world.round()

    assert world.rights.not_ready() == (
        "may not patch virtualservices.networking.istio.io in namespace shop: no weight can be set, neither forward "
        "nor back; Role canary in namespace shop needs the rule {apiGroups: [networking.istio.io], resources: "
        "[virtualservices], verbs: [patch]}"
    )
    assert [where for kind, where in asked if kind is RULES_REVIEW] == ["shop"]
    world.spaces = ["shop"]
    world.round()
    assert world.rights.not_ready() != ""


def test_who_is_no_service_account_is_bound_by_name() -> None:
    world = World("closed")
    world.api.bound["closed"] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "ACCOUNT", "alice")
        world.round()

    assert "--user=alice -n closed" in world.rights.notes()
