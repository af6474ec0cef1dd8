"""Trying a revision again by itself after a rollback, as Envoy lets an ejected host back: each time later. Pure.

A rollback writes into its status when the next attempt is due (`planned`), so that a restart changes nothing. Later
looks decide what becomes of it (`retries`): a new attempt, once; or nothing any more, and why. It must never take the
place of a newer release, nor act against a person who aborted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from canary.engine.intake import Candidate, Carrier, age, attempt_document, attempts_at, number_in
from canary.engine.look import said
from canary.model.policy import OutlierDetection, Policy, Retry
from canary.model.rollout import API_VERSION, KIND, Phase, RetryStatus, Rollout, TriggerBy
from canary.model.text import plain
from canary.model.units import format_duration

LONGEST_PAUSE = timedelta(seconds=300)
"""Envoy's max_ejection_time, which Istio leaves at its default: 300 s, or baseEjectionTime where that is longer."""

_ASKED = ("target", "policyName", "service", "virtualService", "route")


def pause_after(thresholds: OutlierDetection, rollbacks: int) -> timedelta:
    """From the end of a rollback to the next attempt: baseEjectionTime x rollbacks of this revision, as Envoy ejects
    a host for baseEjectionTime x ejections, and no longer than `LONGEST_PAUSE`."""
    base, longest = thresholds.base_ejection_time, max(LONGEST_PAUSE, thresholds.base_ejection_time)
    return longest if rollbacks >= longest / base else base * rollbacks


def rollbacks_before(rollouts: Sequence[Rollout], rollout: Rollout) -> int:
    """How many earlier attempts at this one's revision were rolled back, whoever started them.

    An attempt that is only known from the numbers of the later ones (pruned, or deleted) counts as one of them.
    """
    known = attempts_at(rollouts, rollout.spec.target, rollout.status.target_revision or "")
    earlier = [one for one in known if age(one) < age(rollout)]
    forgotten = max(0, number_in(rollout) - 1 - sum(number_in(one) > 0 for one in earlier))
    return forgotten + sum(one.status.phase is Phase.ROLLED_BACK for one in earlier)


def planned(policy: Policy, name: str, rollbacks: int, now: datetime) -> RetryStatus | None:
    """When the attempt `name`, rolled back now as the `rollbacks`-th of its revision, is tried again; None for never
    by itself."""
    if policy.strategy.retry is not Retry.BACKOFF:
        return None
    thresholds = policy.outlier_detection
    pause, base = pause_after(thresholds, rollbacks), thresholds.base_ejection_time
    capped = f", at most {format_duration(pause)}" if pause < base * min(rollbacks, 1000) else ""
    count = f"{rollbacks} rollback{'' if rollbacks == 1 else 's'}"
    sentence = (
        f"retry {rollbacks}, {format_duration(pause)} (baseEjectionTime {format_duration(base)} x {count}{capped}) "
        f"after {name} was rolled back"
    )
    return RetryStatus(at=now + pause, sentence=plain(sentence, 256))


@dataclass(frozen=True, slots=True)
class Service:
    """What a service looks like now: who carries its traffic (None: nobody can tell), which Deployments opted in, and
    the newest revision of every target that exists ("" while it is being made)."""

    carrier: Carrier | None
    candidates: Sequence[Candidate]
    revisions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Retries:
    """What becomes of the planned retries of a service.

    `attempt` is the CanaryRollout to make now, and `sentence` why; `wait` the time until it is worth looking again;
    `settled` the rollouts (by name) whose plan is over, with what is to be said instead.
    """

    attempt: dict[str, Any] | None = None
    sentence: str = ""
    wait: timedelta | None = None
    settled: tuple[tuple[str, RetryStatus], ...] = ()


def retries(rollouts: Sequence[Rollout], service: Service, now: datetime) -> Retries:
    """Decide for one service. `rollouts` are all of its attempts; only the newest can be tried again."""
    settled: list[tuple[str, RetryStatus]] = []
    result = Retries()
    for rollout in rollouts:
        retry = rollout.status.retry
        if rollout.deleting or rollout.status.phase is not Phase.ROLLED_BACK or retry is None or retry.at is None:
            continue
        over = _over_because(rollout, rollouts, service)
        if over:
            settled.append((rollout.name, RetryStatus(sentence=plain(over, 2048))))
        elif _may_go(rollout, rollouts, service):
            if now < retry.at:
                result = Retries(wait=retry.at - now)
            else:
                result = Retries(_next(rollout, rollouts, service, retry.sentence), retry.sentence)
    return Retries(result.attempt, result.sentence, result.wait, tuple(settled))


def _over_because(rollout: Rollout, rollouts: Sequence[Rollout], service: Service) -> str:
    """Why a planned retry will never be made by itself any more, "" while it may."""
    spec, status, revision = rollout.spec, rollout.status, rollout.status.target_revision or ""
    later = [one for one in attempts_at(rollouts, spec.target, revision) if age(one) > age(rollout)]
    if later:
        return f"tried again by {later[0].name}"
    if spec.abort:
        return said("not tried again: aborted", spec.abort)
    newer = [one for one in rollouts if age(one) > age(rollout) and one.status.stable]
    if newer:
        return f"not tried again: {newer[0].name} came after it"
    if spec.target not in service.revisions:
        return f"not tried again: Deployment {spec.target} is gone"
    now = service.revisions[spec.target]
    if now not in ("", revision):
        return f"not tried again: {spec.target} has a newer revision, {now}"
    stable, carrier = status.stable, service.carrier
    if (
        stable
        and carrier
        and (carrier.deployment, carrier.revision or stable.revision)
        != (
            stable.deployment,
            stable.revision,
        )
    ):
        return f"not tried again: {stable.deployment} (revision {stable.revision}) does not carry the traffic any more"
    if now and spec.trigger.by is TriggerBy.ANNOTATION and _candidate(rollout, service) is None:
        return f"not tried again: {spec.target} does not ask for it any more (annotation canary.delivery/policy)"
    return ""


def _may_go(rollout: Rollout, rollouts: Sequence[Rollout], service: Service) -> bool:
    """Whether nothing is in the way now: no attempt on the way, and all is known that has to be."""
    on_the_way = any(not one.status.phase.is_terminal for one in rollouts)
    is_known = service.carrier is not None and service.carrier.revision and service.revisions.get(rollout.spec.target)
    return not on_the_way and bool(is_known)


def _candidate(rollout: Rollout, service: Service) -> Candidate | None:
    return next((one for one in service.candidates if one.deployment == rollout.spec.target), None)


def _next(rollout: Rollout, rollouts: Sequence[Rollout], service: Service, why: str) -> dict[str, Any]:
    """The next attempt: what the annotations ask for now where they asked before, else the same wishes again."""
    spec, revision = rollout.spec, rollout.status.target_revision or ""
    number = max(number_in(one) for one in attempts_at(rollouts, spec.target, revision)) + 1
    candidate = _candidate(rollout, service) if spec.trigger.by is TriggerBy.ANNOTATION else None
    if candidate is not None:
        document = attempt_document(rollout.namespace, candidate)
    else:
        asked = spec.document()
        wishes = {field: asked[field] for field in _ASKED if field in asked}
        trigger = {"by": TriggerBy.RETRY.value} | ({"id": spec.trigger.id} if spec.trigger.id else {})
        document = {"apiVersion": API_VERSION, "kind": KIND, "spec": {**wishes, "trigger": trigger}}
    document["metadata"] = {"name": f"{spec.target}-{revision}-{number}", "namespace": rollout.namespace}
    document["spec"]["trigger"]["reason"] = why
    return document
