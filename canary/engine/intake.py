"""Which annotated Deployment starts a rollout by itself, and which must not. Pure rules (decisions 2-4, 14).

A revision starts by itself once: when no attempt at it exists and it is newer than what carries the traffic, so that
after v2's promotion an annotated v1 does not come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canary.engine.actions import Announce
from canary.model.annotations import OptIn
from canary.model.rollout import API_VERSION, KIND, Phase, Rollout, TriggerBy


@dataclass(frozen=True, slots=True)
class Candidate:
    """A Deployment that opted in: its newest revision and when that revision's ReplicaSet was made (aware, UTC)."""

    deployment: str
    revision: str
    made: datetime
    asks: OptIn
    service: str


@dataclass(frozen=True, slots=True)
class Carrier:
    """The Deployment that carries the traffic now."""

    deployment: str
    revision: str
    made: datetime | None


@dataclass(frozen=True, slots=True)
class Intake:
    """The next attempt to make, if any, and what to tell the owners of the others."""

    start: Candidate | None = None
    notes: tuple[tuple[str, Announce], ...] = ()
    """(Deployment, Event) pairs."""


def attempts_at(rollouts: Sequence[Rollout], deployment: str, revision: str) -> list[Rollout]:
    """The attempts at one revision of one Deployment, oldest first."""
    prefix = f"{deployment}-{revision}-"
    mine = [
        rollout
        for rollout in rollouts
        if rollout.spec.target == deployment
        and (rollout.status.target_revision or revision) == revision
        and (rollout.status.target_revision or rollout.name.startswith(prefix) or not rollout.status.phase.is_terminal)
    ]
    return sorted(mine, key=age)


def age(rollout: Rollout) -> tuple[datetime, str]:
    """Sort key: oldest first, by name among equals (creation times have whole seconds)."""
    return rollout.created, rollout.name


def intake(candidates: Sequence[Candidate], carrier: Carrier | None, rollouts: Sequence[Rollout]) -> Intake:
    """Decide for one service. `rollouts` are all of its attempts, ended ones too."""
    notes: list[tuple[str, Announce]] = []
    on_the_way = [candidate.made for candidate in candidates if _is_on_its_way(candidate, rollouts)]
    startable: list[Candidate] = []
    for candidate in candidates:
        if carrier is not None and candidate.deployment == carrier.deployment:
            continue
        if attempts_at(rollouts, candidate.deployment, candidate.revision):
            continue
        if carrier is not None and carrier.made is not None and candidate.made <= carrier.made:
            sentence = (
                f"revision {candidate.revision} is not newer than {carrier.deployment}, which carries the traffic, so "
                f"it does not start by itself; `canary start {candidate.deployment}` starts it"
            )
            notes.append((candidate.deployment, Announce("Normal", "OlderRevision", sentence)))
            continue
        if any(candidate.made <= made for made in on_the_way):
            continue  # it would supersede what is newer than itself
        startable.append(candidate)
    newest = max(startable, key=lambda candidate: (candidate.made, candidate.deployment), default=None)
    return Intake(newest, tuple(notes))


def _is_on_its_way(candidate: Candidate, rollouts: Sequence[Rollout]) -> bool:
    attempts = attempts_at(rollouts, candidate.deployment, candidate.revision)
    return any(not attempt.status.phase.is_terminal for attempt in attempts)


def attempt_document(namespace: str, candidate: Candidate) -> dict[str, Any]:
    """The CanaryRollout of a first attempt; its name is a function of the revision, so whoever races makes the same."""
    spec: dict[str, Any] = {
        "target": candidate.deployment,
        "policyName": candidate.asks.policy,
        "trigger": {"by": TriggerBy.ANNOTATION.value, "reason": "annotation canary.delivery/policy"},
    }
    optional = {
        "service": candidate.service,
        "virtualService": candidate.asks.virtual_service,
        "route": candidate.asks.route,
    }
    spec |= {key: value for key, value in optional.items() if value}
    if candidate.asks.release_id:
        spec["trigger"]["id"] = candidate.asks.release_id
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": f"{candidate.deployment}-{candidate.revision}-1", "namespace": namespace},
        "spec": spec,
    }


def active_of(
    rollouts: Sequence[Rollout], revisions: Mapping[str, str] | None = None
) -> tuple[Rollout | None, dict[str, str]]:
    """The one attempt that may act, and why each other unfinished one may not (name -> who supersedes it).

    At the same target and revision the oldest is the attempt; another target or revision takes over from an older one,
    which goes back first and keeps the right to act until it has ended. An attempt that is not pinned yet and whose
    name does not tell is for its Deployment's newest revision: of `revisions` (by Deployment) where known, else the
    one of the newest attempt that tells.
    """
    # creation times have whole seconds: of two in the same one, who has begun is the older
    unfinished = sorted(
        (rollout for rollout in rollouts if not rollout.status.phase.is_terminal),
        key=lambda rollout: (rollout.created, rollout.status.phase is Phase.PENDING, rollout.name),
    )
    if not unfinished:
        return None, {}
    oldest, reasons = unfinished[0], {}
    told = {entry.spec.target: _revision_of(entry) for entry in unfinished if _revision_of(entry)}
    told.update(revisions or {})
    first_of: dict[tuple[str, str], Rollout] = {}
    for rollout in unfinished:
        target = rollout.spec.target
        wanted = (target, _revision_of(rollout) or told.get(target, ""))
        if wanted in first_of:
            reasons[rollout.name] = f"CanaryRollout {first_of[wanted].name}, the same revision's older attempt"
        else:
            first_of[wanted] = rollout
    newest = list(first_of.values())[-1]
    for rollout in first_of.values():
        if rollout is not newest:
            reasons[rollout.name] = f"CanaryRollout {newest.name}"
    return oldest, reasons


def _revision_of(rollout: Rollout) -> str:
    return rollout.status.target_revision or revision_in(rollout)


def revision_in(rollout: Rollout) -> str:
    """The revision in an attempt's name `<deployment>-<revision>-<n>`, "" when it is named otherwise."""
    return _parts_of(rollout)[0]


def number_in(rollout: Rollout) -> int:
    """The n in an attempt's name `<deployment>-<revision>-<n>`, 0 when it is named otherwise."""
    return _parts_of(rollout)[1]


def _parts_of(rollout: Rollout) -> tuple[str, int]:
    rest = rollout.name.removeprefix(f"{rollout.spec.target}-")
    revision, _, number = rest.rpartition("-")
    is_ours = rest != rollout.name and number.isascii() and number.isdigit()
    return (revision, int(number)) if is_ours else ("", 0)
