"""`canary promote`, `pause`, `resume`, `abort`: wishes written into a rollout's spec, for the controller to carry out.

A wish that makes no sense is refused in one sentence. One that does is stored even while no controller lives: the
next one reads it; the exit code 8 then says that nothing happens yet.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from canary.cli.actor import actor
from canary.cli.attempt import Attempt, number, part, text
from canary.cli.exits import ExitCode, stop
from canary.cli.heartbeat import no_controller
from canary.cli.options import (
    CONTROLLER_NAMESPACE,
    Context,
    ControllerNamespace,
    Kubeconfig,
    Namespace,
    Reason,
    RolloutName,
    checked_text,
)
from canary.cli.reach import Cluster, reach
from canary.cli.terminal import say
from canary.cluster.kinds import CANARYROLLOUT
from canary.model.phase import Phase

ALL = 100


def register(app: typer.Typer) -> None:
    for command in (promote, pause, resume, abort):
        app.command(command.__name__)(command)


def promote(
    *,
    name: RolloutName,
    full: Annotated[bool, typer.Option("--full", help="To 100 % at once, past every step.")] = False,
    reason: Reason = "",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """Go past the pause a rollout waits at, or to 100 % at once."""
    cluster, attempt = _attempt(name, namespace, context, kubeconfig)
    _refuse_ended(attempt, "promoted", Phase.ROLLING_BACK)
    if attempt.step is None or attempt.phase in (Phase.PENDING, Phase.CHECKING):
        stop(f"{attempt.name} is {attempt.phase}: it has not begun, so there is nothing to promote")
    if attempt.phase == Phase.PROMOTING:
        desired = number(attempt.status, "weight", "desired")
        if desired in (None, ALL):
            stop(f"{attempt.name} already has all the traffic and is being promoted")
        if not full:
            stop(
                f"{attempt.name} bakes at {desired} % and is being promoted by itself; "
                f"canary promote --full {attempt.name} takes it to 100 % at once"
            )
    if "paused" in attempt.spec:
        stop(f"{attempt.name} is paused{_by(attempt, 'paused')}: canary resume {attempt.name} first")
    index, _ = attempt.step
    if not full and not _waits_at(attempt, index):
        stop(
            f"{attempt.name} does not wait for anybody at step {attempt.step_text}: it goes on by itself; "
            f"canary promote --full {attempt.name} takes it to 100 % at once"
        )
    # a merge patch keeps what it does not name: without the null an earlier wish's step or full would stay
    wish = {"step": None, "full": True} if full else {"step": index, "full": None}
    _wish(cluster, attempt, "promote", wish, reason)
    done = "goes to 100 % at once" if full else f"goes on from step {attempt.step_text}"
    _stored(cluster, attempt, done, controller_namespace)


def pause(
    *,
    name: RolloutName,
    reason: Reason = "",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """Stay at the current weight until resumed. It is still judged, and can still be rolled back."""
    cluster, attempt = _attempt(name, namespace, context, kubeconfig)
    _refuse_ended(attempt, "paused", Phase.ROLLING_BACK)
    if "paused" in attempt.spec:
        say(f"{attempt.name} already is paused{_by(attempt, 'paused')}")
        return
    _wish(cluster, attempt, "paused", {}, reason)
    _stored(cluster, attempt, f"stays where it is, until canary resume {attempt.name}", controller_namespace)


def resume(
    *,
    name: RolloutName,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """Go on after `canary pause`."""
    cluster, attempt = _attempt(name, namespace, context, kubeconfig)
    _refuse_ended(attempt, "resumed", Phase.ROLLING_BACK)
    if "paused" not in attempt.spec:
        if attempt.phase == Phase.PAUSED:
            stop(f"{attempt.name} waits for another word, canary promote {attempt.name}: {attempt.sentence}")
        stop(f"{attempt.name} is not paused")
    _patch(cluster, attempt, {"paused": None})
    _stored(cluster, attempt, "goes on", controller_namespace)


def abort(
    *,
    name: RolloutName,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the object.", show_default=False)],
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    controller_namespace: ControllerNamespace = CONTROLLER_NAMESPACE,
) -> None:
    """Give all traffic back to stable and end the rollout. Cannot be taken back; `canary retry` starts anew."""
    cluster, attempt = _attempt(name, namespace, context, kubeconfig)
    if not reason.strip():
        raise typer.BadParameter("say why: the reason is what the next person reads", param_hint="--reason")
    is_tried_again = attempt.phase == Phase.ROLLED_BACK and "at" in part(attempt.status, "retry")
    if not is_tried_again:
        _refuse_ended(attempt, "aborted")
    if "abort" in attempt.spec:
        say(f"{attempt.name} already is being aborted{_by(attempt, 'abort')}")
        return
    if attempt.phase == Phase.ROLLING_BACK:
        stop(f"{attempt.name} already is being rolled back: {attempt.sentence}")
    _wish(cluster, attempt, "abort", {}, reason)
    done = "is not tried again by itself" if is_tried_again else "gives its traffic back to stable"
    _stored(cluster, attempt, done, controller_namespace)


def _attempt(name: str, namespace: str | None, context: str | None, kubeconfig: str | None) -> tuple[Cluster, Attempt]:
    cluster = reach(kubeconfig, context, namespace)
    return cluster, cluster.attempt(name)


def _refuse_ended(attempt: Attempt, done: str, *phases: Phase) -> None:
    if attempt.is_terminal:
        stop(
            f"{attempt.name} has ended ({attempt.phase}) and cannot be {done}: "
            f"canary retry {attempt.name} makes a new attempt"
        )
    if phases and "abort" in attempt.spec:
        stop(f"{attempt.name} is being aborted{_by(attempt, 'abort')}, and cannot be {done}")
    if attempt.phase in phases:
        stop(f"{attempt.name} is {attempt.phase} and cannot be {done}: {attempt.sentence}")


def _waits_at(attempt: Attempt, index: int) -> bool:
    """Whether this step ends only by a person: paused there now, or its policy says it will."""
    if attempt.phase == Phase.PAUSED:
        return True
    strategy = part(attempt.status, "policy", "resolved", "strategy")
    weights, pauses = strategy.get("weights") or [], strategy.get("pauseAt") or []
    if index == 0:
        return not weights
    return index <= len(weights) and weights[index - 1] in pauses


def _by(attempt: Attempt, wish: str) -> str:
    who, why = text(attempt.spec, wish, "actor"), text(attempt.spec, wish, "reason")
    return (f" by {who}" if who else "") + (f": {why}" if why else "")


def _wish(cluster: Cluster, attempt: Attempt, field: str, wish: dict[str, Any], reason: str) -> None:
    said = {"reason": checked_text(reason, "--reason"), "actor": actor(cluster.gateway)}
    _patch(cluster, attempt, {field: {**wish, **said}})


def _patch(cluster: Cluster, attempt: Attempt, spec: dict[str, Any]) -> None:
    # not pinned: each wish names what it means (this step, this object's uid), and status moves several times a minute
    body = {"metadata": {"uid": text(attempt.document, "metadata", "uid")}, "spec": spec}
    cluster.gateway.patch(CANARYROLLOUT, attempt.namespace, attempt.name, body, patch_type="merge")


def _stored(cluster: Cluster, attempt: Attempt, done: str, controller_namespace: str) -> None:
    trouble = no_controller(cluster.gateway, controller_namespace)
    if trouble:
        stop(f"{attempt.name}: the wish is stored, but {trouble}", ExitCode.NO_CONTROLLER)
    say(f"{attempt.name} {done}")
