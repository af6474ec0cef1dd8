"""The status writer: only the difference, only when it changed, never too large, never twice."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CANARYROLLOUT
from canary.cluster.status import HARD_BYTES, TARGET_BYTES, StatusWriter
from canary.errors import Ambiguous, Conflict, Invalid, Unavailable

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, as the API server applies it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class OneObject(Gateway):
    """An API server with one rollout. `lost_answers`: patches that arrive although their answer does not."""

    def __init__(self, status: dict[str, Any] | None = None, *, lost_answers: int = 0, lost_requests: int = 0) -> None:
        self.stored: dict[str, Any] = {
            "metadata": {"namespace": "shop", "name": "payment-v2-1", "uid": "u", "resourceVersion": "1"},
            "spec": {"service": "payment"},
        }
        if status is not None:
            self.stored["status"] = status
        self.patches: list[dict[str, Any]] = []
        self.lost_answers = lost_answers
        self.lost_requests = lost_requests

    def patch(self, *asked: Any, **options: Any) -> dict[str, Any]:
        *place, body = asked
        assert place == [CANARYROLLOUT, "shop", "payment-v2-1"]
        assert options == {"patch_type": "merge", "subresource": "status"}
        self.patches.append(body)
        if self.lost_requests:
            self.lost_requests -= 1
            raise Ambiguous("cannot tell whether it happened")
        if body["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified", status=409)
        self.stored["status"] = merged(self.stored.get("status"), body["status"])
        self.touch()
        if self.lost_answers:
            self.lost_answers -= 1
            raise Ambiguous("cannot tell whether it happened")
        return copy.deepcopy(self.stored)

    def get(self, *_place: Any) -> dict[str, Any]:
        return copy.deepcopy(self.stored)

    def touch(self) -> None:
        metadata = self.stored["metadata"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)


def writer(gateway: OneObject) -> StatusWriter:
    return StatusWriter(gateway, now=lambda: NOW)


def read(gateway: OneObject) -> dict[str, Any]:
    return copy.deepcopy(gateway.stored)


def test_only_what_changed_is_sent_pinned_to_what_it_was_decided_on() -> None:
    gateway = OneObject({"phase": "Checking", "weight": {"desired": 10, "configured": 10}, "drift": {"since": "x"}})

    after = writer(gateway).write(read(gateway), {"phase": "Checking", "weight": {"desired": 25, "configured": 10}})

    assert gateway.patches == [
        {"metadata": {"resourceVersion": "1"}, "status": {"weight": {"desired": 25}, "drift": None}}
    ]
    assert after["metadata"]["resourceVersion"] == "2"
    assert after["status"] == {"phase": "Checking", "weight": {"desired": 25, "configured": 10}}


def test_nothing_is_sent_when_nothing_changed() -> None:
    gateway = OneObject({"phase": "Checking", "weight": {"desired": 10}})
    before = read(gateway)

    after = writer(gateway).write(before, {"phase": "Checking", "weight": {"desired": 10}, "verdict": None})

    assert gateway.patches == []
    assert after == before


fields = st.dictionaries(
    st.sampled_from(["phase", "weight", "step", "conditions_", "verdict"]),
    st.recursive(
        st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=3),
        lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
        max_leaves=8,
    ),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=fields, wanted=fields)
def test_whatever_was_there_the_server_ends_with_what_was_wanted(
    before: dict[str, Any], wanted: dict[str, Any]
) -> None:
    gateway = OneObject(before)

    after = writer(gateway).write(read(gateway), wanted)

    assert after.get("status", {}) == wanted


def condition(status: str, reason: str = "Why", **more: Any) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": reason, **more}


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    old = condition("False", lastTransitionTime="2026-01-01T00:00:00Z")
    gateway = OneObject({"conditions": [old]})
    statuses = writer(gateway)

    later = condition("False", "OtherReason", lastTransitionTime="2026-01-31T07:59:59Z")
    same = statuses.write(read(gateway), {"conditions": [later]})
    turned = statuses.write(same, {"conditions": [condition("True")]})

    assert same["status"]["conditions"] == [{**later, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    assert turned["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-31T08:00:00Z"


def history(entries: int, size: int = 250) -> list[dict[str, Any]]:
    return [{"phase": "Progressing", "sentence": f"{number:04d}" + "x" * size} for number in range(entries)]


def test_the_oldest_history_goes_first_and_is_counted() -> None:
    gateway = OneObject()

    after = writer(gateway).write(read(gateway), {"phase": "Progressing", "history": history(23)})
    again = writer(gateway).write(after, {**after["status"], "history": [*after["status"]["history"], *history(1)]})

    assert [entry["sentence"][:4] for entry in after["status"]["history"]] == [f"{n:04d}" for n in range(3, 23)]
    assert after["status"]["historyDropped"] == 3
    assert again["status"]["historyDropped"] == 4
    assert len(again["status"]["history"]) == 20


def test_an_object_keeps_to_its_target_by_dropping_history() -> None:
    gateway = OneObject()
    resolved = {"copy": "y" * 12_000}

    after = writer(gateway).write(
        read(gateway), {"policy": {"name": "p", "resolved": resolved}, "history": history(20)}
    )

    assert len(orjson.dumps(after)) <= TARGET_BYTES + 10
    assert after["status"]["policy"]["resolved"] == resolved
    assert 5 <= len(after["status"]["history"]) < 20
    assert after["status"]["history"][-1]["sentence"].startswith("0019")


def test_above_the_hard_cap_the_copy_for_display_goes_and_the_outcome_stays() -> None:
    gateway = OneObject()
    status = {"phase": "RolledBack", "policy": {"name": "p", "resolved": {"copy": "y" * 40_000}}, "history": history(3)}

    after = writer(gateway).write(read(gateway), status)

    assert len(orjson.dumps(after)) <= HARD_BYTES
    assert after["status"]["phase"] == "RolledBack"
    assert after["status"]["policy"] == {"name": "p", "resolved": {}}
    assert after["status"]["historyDropped"] == 3


def test_what_cannot_fit_is_permanent_and_never_sent() -> None:
    gateway = OneObject()
    gateway.stored["metadata"]["annotations"] = {"huge": "z" * 100_000}

    with pytest.raises(Invalid, match="payment-v2-1 would have"):
        writer(gateway).write(read(gateway), {"phase": "Checking"})

    assert gateway.patches == []


def test_a_patch_whose_answer_was_lost_is_found_by_reading_again() -> None:
    gateway = OneObject({"phase": "Checking"}, lost_answers=1)

    after = writer(gateway).write(read(gateway), {"phase": "Progressing"})

    assert after["status"] == {"phase": "Progressing"}
    assert after["metadata"]["resourceVersion"] == "2"
    assert len(gateway.patches) == 1


def test_a_patch_that_never_arrived_stays_ambiguous_and_may_be_tried_again() -> None:
    gateway = OneObject({"phase": "Checking"}, lost_requests=1)
    before = read(gateway)

    with pytest.raises(Ambiguous):
        writer(gateway).write(before, {"phase": "Progressing"})
    after = writer(gateway).write(before, {"phase": "Progressing"})

    assert after["status"] == {"phase": "Progressing"}


def test_somebody_elses_write_is_a_conflict_also_when_our_answer_was_lost() -> None:
    gateway = OneObject({"phase": "Checking"}, lost_requests=1)
    before = read(gateway)
    gateway.touch()

    with pytest.raises(Conflict, match="shop/payment-v2-1 was changed by somebody else"):
        writer(gateway).write(before, {"phase": "Progressing"})
    with pytest.raises(Conflict):
        writer(gateway).write(before, {"phase": "Progressing"})


def test_an_answer_lost_and_no_second_look_possible_says_so() -> None:
    class Gone(OneObject):
        def get(self, *_place: Any) -> dict[str, Any]:
            raise Unavailable("no answer")

    gateway = Gone({"phase": "Checking"}, lost_answers=1)

    with pytest.raises(Ambiguous):
        writer(gateway).write(read(gateway), {"phase": "Progressing"})
