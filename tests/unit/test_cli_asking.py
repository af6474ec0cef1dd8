"""What commands ask the API server before they write, when the answer is not the usual one."""

from __future__ import annotations

from typing import Any

import pytest

from canary.cli import start
from canary.cli.actor import actor
from canary.cli.heartbeat import no_controller
from canary.cli.reach import Cluster
from canary.errors import Ambiguous, Conflict, Forbidden, NotFound, Unavailable


class Answering:
    """A gateway of which every request ends in the same way."""

    def __init__(self, answer: Any = None, *, then: Any = None) -> None:
        self._answer, self._then = answer, then

    def create(self, *_: Any) -> Any:
        return _given(self._answer)

    def review(self, *_: Any) -> Any:
        return _given(self._answer)

    def get(self, *_: Any) -> Any:
        return _given(self._answer if self._then is None else self._then)

    def list(self, *_: Any, **__: Any) -> tuple[list[Any], str]:
        return [_given(self._answer)], "1"


def _given(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def gateway(answer: Any = None, *, then: Any = None) -> Any:
    return Answering(answer, then=then)


def test_the_actor_is_the_user_that_the_api_server_sees() -> None:
    assert actor(gateway({"userInfo": {"username": "alice@example.com"}})) == "alice@example.com"


@pytest.mark.parametrize("answer", [Forbidden("no"), NotFound("no"), Unavailable("no"), {}, {"userInfo": None}])
def test_where_the_api_server_does_not_say_it_is_the_user_of_this_machine(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canary.cli.actor.getuser", lambda: "bob")

    assert actor(gateway(answer)) == "bob"


def test_a_container_without_a_user_name_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("canary.cli.actor.getuser", nameless)

    assert actor(gateway(Forbidden("no"))) == ""


def test_a_hostile_user_name_is_cleaned_before_it_is_stored() -> None:
    name = actor(gateway({"userInfo": {"username": "\x1b[31mroot\n" + "x" * 500}}))

    assert name.isprintable()
    assert len(name) == 256


@pytest.mark.parametrize("answer", [Forbidden("no"), Unavailable("no")])
def test_a_lease_that_we_may_not_or_cannot_read_is_no_proof_of_death(answer: Exception) -> None:
    assert no_controller(gateway(answer), "canary-system") == ""


@pytest.mark.parametrize(
    "spec",
    [None, {}, {"holderIdentity": ""}, {"holderIdentity": "a"}, {"holderIdentity": "a", "renewTime": "yesterday"}],
)
def test_a_lease_that_nobody_holds_is_no_controller(spec: Any) -> None:
    lease = {"metadata": {"name": "canary-member-a"}, "spec": spec}

    assert "is not renewed" in no_controller(gateway(lease), "canary-system")


def test_an_unanswered_create_that_happened_is_ours() -> None:
    spec = {"target": "payment-v2", "trigger": {"by": "cli", "user": "alice"}}
    stored = {"metadata": {"name": "payment-v2-abc-1"}, "spec": {**spec, "policyName": "standard"}}
    cluster = Cluster(gateway(Ambiguous("no answer"), then=stored), "shop")

    assert start._create(cluster, "payment-v2-abc-1", spec).document == stored


def test_an_unanswered_create_that_another_won_is_a_conflict() -> None:
    spec = {"target": "payment-v2", "trigger": {"by": "cli", "user": "alice"}}
    stored = {"metadata": {"name": "payment-v2-abc-1"}, "spec": {"trigger": {"by": "annotation"}}}
    cluster = Cluster(gateway(Ambiguous("no answer"), then=stored), "shop")

    with pytest.raises(Conflict):
        start._create(cluster, "payment-v2-abc-1", spec)


def test_an_unanswered_create_that_did_not_happen_stays_an_unanswered_one() -> None:
    cluster = Cluster(gateway(Ambiguous("no answer"), then=NotFound("no")), "shop")

    with pytest.raises(Ambiguous, match="no answer"):
        start._create(cluster, "payment-v2-abc-1", {"trigger": {"by": "cli"}})
