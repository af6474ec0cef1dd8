"""The record beside a rollout in the cluster: how often it is written, whose it is, and that nothing waits for it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from canary.analysis.record import Record
from canary.analysis.replay import replay
from canary.cluster.evidence import KEY, evidence_name
from canary.cluster.kinds import CANARYROLLOUT, CONFIGMAP
from canary.errors import NotFound
from canary.model.rollout import Phase
from canary.model.verdict import Outcome

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"


def record_of(shop: Any, name: str = ATTEMPT) -> Record | None:
    try:
        found = shop.get(CONFIGMAP, evidence_name(name))
    except NotFound:
        return None
    return Record.unpack(base64.b64decode(found["binaryData"][KEY]))


def last_outcome(shop: Any) -> Outcome | None:
    record = record_of(shop)
    return record.lives[-1].entries[-1].verdict.outcome if record else None


def saves(controller: Any) -> list[str]:
    return [verb for verb, plural, _ in controller.writes if plural == "configmaps"]


def test_a_release_writes_its_record_once_a_step_and_at_its_end(
    released: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    released.release("v2")
    ended = released.reaches(ATTEMPT, Phase.SUCCEEDED)
    controller.ticks(2)

    occasions = len(ended.status.weight_changes) + 2  # the bake and the end
    frozen_policy = 1
    assert 1 <= len(saves(controller)) - frozen_policy <= occasions
    record = record_of(released)
    assert record is not None
    (life,) = record.lives
    assert {step.step for step in life.steps} == {1, 2}
    assert record.about["name"] == ATTEMPT
    assert replay(record).agrees


def test_the_verdict_that_ended_a_release_is_in_its_record(
    released: Any, controller: Any, counts: Any, wait: Callable[..., Any]
) -> None:
    counts.broken["payment-v2"] = (1.0, 0.0)
    released.release("v2")
    released.reaches(ATTEMPT, Phase.ROLLED_BACK)

    wait(lambda: last_outcome(released) is Outcome.FAIL, what="for the verdict in the record")

    record = record_of(released)
    assert record is not None
    assert replay(record).agrees


def test_a_successor_goes_on_with_the_record_of_the_controller_before_it(
    released: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    released.release("v2", policy="slow")
    released.until_judged(ATTEMPT)
    controller.ticks(3)
    controller.stop()  # told to: what it has is written
    before = record_of(released)
    assert before is not None

    controller.again()
    uid = released.rollout(ATTEMPT).uid
    judged = controller.daemon.reconciler.observer.evidence.recorder
    wait(
        lambda: judged(uid) and (judged(uid).last_end or 0.0) > _windows(before)[-1].end,
        what="for newer windows to be judged",
    )
    controller.ticks(2)  # and looked at
    released.patch_abort(ATTEMPT)
    released.reaches(ATTEMPT, Phase.ABORTED)

    wait(lambda: len(_windows(record_of(released))) > len(_windows(before)), what="for newer windows")
    after = record_of(released)
    assert after is not None
    assert _windows(after)[: len(_windows(before))] == _windows(before)
    assert set(_said(before)) <= set(_said(after))
    assert replay(after).agrees


def test_a_foreign_config_map_of_that_name_is_left_alone_and_stops_no_release(released: Any, controller: Any) -> None:
    name = evidence_name(ATTEMPT)
    theirs = released.create(CONFIGMAP, {"metadata": {"name": name}, "data": {"theirs": "yes"}})

    released.release("v2")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)

    assert released.get(CONFIGMAP, name) == theirs
    assert 'canary_record_failures_total{reason="ForeignEvidence"}' in controller.metrics()


def test_the_record_goes_with_its_rollout(released: Any, controller: Any, wait: Callable[..., Any]) -> None:
    released.release("v2")
    released.reaches(ATTEMPT, Phase.SUCCEEDED)
    wait(lambda: record_of(released), what="for the record")

    released.gateway.delete(CANARYROLLOUT, released.namespace, ATTEMPT)

    wait(lambda: record_of(released) is None, what="for the record to go")


def _windows(record: Record | None) -> list[Any]:
    return [seen.window for life in record.lives for seen in life.windows] if record else []


def _said(record: Record) -> list[tuple[float, str]]:
    return [(entry.at, entry.verdict.sentence) for life in record.lives for entry in life.entries]
