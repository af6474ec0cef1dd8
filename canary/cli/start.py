"""`canary start` and `canary retry`: make a CanaryRollout, one object per attempt.

Annotation, `canary start` and `kubectl create` may race: the object's name is made of Deployment, revision and
attempt, so that they race into the same object (decisions.md 2).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, NoReturn

import typer

from canary.cli.actor import actor
from canary.cli.attempt import Attempt, newest_attempt, part, text
from canary.cli.exits import ExitCode, stop
from canary.cli.heartbeat import no_controller
from canary.cli.options import (
    CONTROLLER_NAMESPACE,
    Context,
    ControllerNamespace,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    Reason,
    RolloutName,
    Timeout,
    checked_text,
)
from canary.cli.reach import Cluster, deployment_name, reach
from canary.cli.terminal import complain, say
from canary.cli.wait import ThroughPauses, finish
from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, REPLICASET
from canary.errors import Ambiguous, Conflict, InputError, NotFound, Unavailable

REVISION_SECONDS = 10.0
"""How long a template that was applied a moment ago may take to become a ReplicaSet."""

Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end, as canary wait does.")]


@dataclass(frozen=True, slots=True)
class After:
    """What to do once the rollout is there."""

    wait: bool
    timeout: timedelta | None
    through_pauses: bool
    output: Output
    controller_namespace: str


def register(app: typer.Typer) -> None:
    app.command("start")(start)
    app.command("retry")(retry)


def start(
    *,
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="What to release: payment-v2.")],
    policy: Annotated[str, typer.Option("--policy", help="Name of the policy.", show_default=False)],
    service: Annotated[str, typer.Option(help="Its Service; default: the one that selects its pods.")] = "",
    virtual_service: Annotated[str, typer.Option(help="The VirtualService; default: the one that carries it.")] = "",
    route: Annotated[str, typer.Option(help="Name of the http route in it; default: the one that carries it.")] = "",
    release_id: Annotated[str, typer.Option(help="The pipeline's correlation id.")] = "",
    reason: Reason = "",
    wait: Wait = False,
    timeout: Timeout = None,
    through_pauses: ThroughPauses = False,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """Start releasing a Deployment's newest revision. Joins the rollout that is already under way for it."""
    after = After(wait, timeout, through_pauses, output, controller_namespace)
    optional = {"service": service, "virtualService": virtual_service, "route": checked_text(route, "--route", 253)}
    spec: dict[str, Any] = {
        "target": deployment_name(deployment),
        "policyName": policy,
        **{field: value for field, value in optional.items() if value},
    }
    _refuse_names(spec, release_id)
    cluster = reach(kubeconfig, context, namespace)
    revision = _revision(cluster, spec["target"])
    earlier = _of_revision(cluster.attempts_of(spec["target"]), revision)
    if earlier:
        _join(cluster, earlier, policy, after)
    spec["trigger"] = _trigger(cluster, reason, release_id)
    try:
        made = _create(cluster, f"{spec['target']}-{revision}-1", spec)
    except Conflict:
        # somebody was faster with the same name: that is the attempt
        _join(cluster, _of_revision(cluster.attempts_of(spec["target"]), revision), policy, after)
    _made(cluster, made, "started", after)


def retry(
    *,
    name: RolloutName,
    release_id: Annotated[str, typer.Option(help="The pipeline's correlation id; default: that of before.")] = "",
    reason: Reason = "",
    wait: Wait = False,
    timeout: Timeout = None,
    through_pauses: ThroughPauses = False,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """Try a revision again that was rolled back, aborted or promoted. Makes a new attempt with the same wishes."""
    after = After(wait, timeout, through_pauses, output, controller_namespace)
    _refuse_names({}, release_id)
    cluster = reach(kubeconfig, context, namespace)
    old = cluster.attempt(name)
    revision = _revision(cluster, old.target)
    if old.revision and old.revision != revision:
        stop(
            f"Deployment {old.target} has a newer template (revision {revision}) than {old.name}: "
            f"canary start {old.target} --policy {text(old.spec, 'policyName')}"
        )
    same = _of_revision(cluster.attempts_of(old.target), revision)
    under_way = [attempt for attempt in same if not attempt.is_terminal]
    if under_way:
        stop(f"{under_way[0].name} is still {under_way[0].phase}: there is nothing to try again")
    asked = ("target", "policyName", "service", "virtualService", "route")
    spec = {field: old.spec[field] for field in asked if field in old.spec}
    spec["trigger"] = _trigger(cluster, reason, release_id or text(old.spec, "trigger", "id"))
    number = max((attempt.number for attempt in same), default=0) + 1
    try:
        made = _create(cluster, f"{old.target}-{revision}-{number}", spec)
    except Conflict:
        stop(f"{old.target}-{revision}-{number} was made by somebody else just now: canary status {old.target}")
    _made(cluster, made, f"tries {old.target} again", after)


def _revision(cluster: Cluster, deployment: str) -> str:
    """The hash of the Deployment's newest template, waited for while its ReplicaSet is being made."""
    from canary.cluster.patience import patiently
    from canary.cluster.workloads import current_revision

    def look() -> str:
        try:
            found = cluster.gateway.get(DEPLOYMENT, cluster.namespace, deployment)
        except NotFound:
            raise NotFound(f"there is no Deployment {deployment} in namespace {cluster.namespace}") from None
        replicasets, _ = cluster.gateway.list(REPLICASET, cluster.namespace)
        revision = current_revision(found, replicasets)
        if revision is None:
            raise Unavailable(f"Deployment {deployment} has no ReplicaSet of its newest template yet: try again")
        return revision

    return patiently(look, within_seconds=REVISION_SECONDS)


def _of_revision(attempts: Iterable[Attempt], revision: str) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.revision == revision]


def _join(cluster: Cluster, earlier: list[Attempt], policy: str, after: After) -> NoReturn:
    """End with what is there already: the attempt under way is joined, one that has ended is said."""
    under_way = [attempt for attempt in earlier if not attempt.is_terminal]
    attempt = newest_attempt(under_way or earlier)
    if attempt is None:
        raise Unavailable("the rollout of this name vanished as it was looked at: try again")
    if attempt.is_terminal:
        ended = {"Succeeded": "promoted", "RolledBack": "rolled back"}.get(attempt.phase, attempt.phase.lower())
        stop(f"this revision was already {ended} by {attempt.name}: canary retry {attempt.name} tries it again")
    other = text(attempt.spec, "policyName")
    differs = f", with policy {other} and not {policy}" if other != policy else ""
    _made(cluster, attempt, f"is already there ({attempt.phase}{differs}): joined", after)


def _create(cluster: Cluster, name: str, spec: dict[str, Any]) -> Attempt:
    """The new object. Raises Conflict where there is one of that name that is not ours."""
    metadata = {"name": name, "namespace": cluster.namespace}
    body = {
        "apiVersion": CANARYROLLOUT.api_version,
        "kind": CANARYROLLOUT.kind,
        "metadata": metadata,
        "spec": spec,
    }
    try:
        return Attempt(cluster.gateway.create(CANARYROLLOUT, cluster.namespace, body))
    except Ambiguous as unanswered:
        # it may have been made: the name says which, so looking tells
        try:
            found = Attempt(cluster.gateway.get(CANARYROLLOUT, cluster.namespace, name))
        except NotFound:
            raise unanswered from None
        if part(found.spec, "trigger") == spec["trigger"]:
            return found
        raise Conflict(f"{name} is somebody else's") from None


def _made(cluster: Cluster, attempt: Attempt, done: str, after: After) -> NoReturn:
    if after.wait:
        from canary.cli.waiting import Until, wait_for

        complain(f"{attempt.name} {done}")
        waited = wait_for(
            cluster,
            attempt,
            until=Until.PROMOTED,
            timeout=after.timeout,
            through_pauses=after.through_pauses,
            controller_namespace=after.controller_namespace,
        )
        finish(waited, after.output)
    if after.output in (Output.TABLE, Output.WIDE):
        say(f"{attempt.name} {done}")
    else:
        from canary.cli.documents import render

        sys.stdout.write(render([attempt], after.output, one=True))
    trouble = no_controller(cluster.gateway, after.controller_namespace)
    if trouble:
        stop(f"{attempt.name} is stored, but {trouble}", ExitCode.NO_CONTROLLER)
    raise typer.Exit


def _trigger(cluster: Cluster, reason: str, release_id: str) -> dict[str, str]:
    said = {"user": actor(cluster.gateway), "reason": checked_text(reason, "--reason"), "id": release_id}
    return {"by": "cli", **{field: value for field, value in said.items() if value}}


def _refuse_names(spec: dict[str, str], release_id: str) -> None:
    """Say before anything is sent what the API server would refuse, in the words of the command line."""
    from canary.model.policy import DNS_LABEL
    from canary.model.rollout import CORRELATION_ID

    options = {"target": "DEPLOYMENT", "policyName": "--policy", "service": "--service"}
    for field, option in {**options, "virtualService": "--virtual-service"}.items():
        value = spec.get(field)
        if value is not None and not (len(value) <= 63 and re.fullmatch(DNS_LABEL, value)):
            raise InputError(f"{option} must be a plain name like payment, not {value!r}")
    if not (len(release_id) <= 128 and re.fullmatch(CORRELATION_ID, release_id)):
        raise InputError("--release-id may have letters, digits and ._:/@+=- only, at most 128")
