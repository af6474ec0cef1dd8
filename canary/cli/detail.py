"""The view of `canary status NAME`: everything a person asks of one rollout, one fact per line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from canary.cli.attempt import Attempt, moment, number, part, parts, text
from canary.cli.durations import exact, short
from canary.cli.table import STYLES
from canary.cli.terminal import safe

if TYPE_CHECKING:
    from rich.console import RenderableType

HISTORY_LINES = 8
LABEL_WIDTH = 10


def drawn(attempt: Attempt, now: datetime) -> RenderableType:
    """Labels on the left, facts on the right, wrapped by the terminal under themselves."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0), expand=False)
    grid.add_column(min_width=LABEL_WIDTH, style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, fact in facts(attempt, now):
        # the times of the history are labels too, so that a wrapped sentence stays beside its time
        style = STYLES.get(attempt.phase, "") if label == "Phase" else "yellow" if label == "Stalled" else ""
        grid.add_row(Text(label), Text(safe(fact), style=style))
    return grid


def plain_lines(attempt: Attempt, now: datetime) -> list[str]:
    """The same for a pipe: one line per fact, never wrapped."""
    return [f"{label:<{LABEL_WIDTH}}  {safe(fact)}".rstrip() for label, fact in facts(attempt, now)]


def facts(attempt: Attempt, now: datetime) -> Iterator[tuple[str, str]]:
    """(label, fact) in reading order; a fact that is not known has no line."""
    lines = [
        ("Rollout", f"{attempt.namespace}/{attempt.name}"),
        ("Service", attempt.service),
        ("Target", _with(attempt.target, "revision ", attempt.revision)),
        ("Stable", _arm(attempt)),
        ("Route", _route(attempt)),
        ("Policy", _with(text(attempt.spec, "policyName"), "digest ", text(attempt.status, "policy", "digest"))),
        ("Started", _trigger(attempt, now)),
        ("Phase", attempt.phase),
        ("Step", _step(attempt, now)),
        ("Weight", _weight(attempt)),
        ("Stalled", attempt.stalled),
        ("Asked for", "" if attempt.is_terminal else attempt.wishes),
        ("Cause", text(attempt.status, "cause", "sentence")),
        ("Retry", _retry(attempt, now)),
        ("Verdict", _verdict(attempt, now)),
        ("Message", _message(attempt)),
        ("Drift", _drift(attempt, now)),
    ]
    yield from ((label, fact) for label, fact in lines if fact)
    yield from _history(attempt, now)


def _with(fact: str, label: str, more: str) -> str:
    return f"{fact} ({label}{more})" if fact and more else fact


def _arm(attempt: Attempt) -> str:
    stable = part(attempt.status, "stable")
    subset = text(stable, "subset")
    label = f"{text(stable, 'label')}={text(stable, 'value')}"
    return _with(text(stable, "deployment"), "", f"subset {subset}, {label}" if subset else "")


def _route(attempt: Attempt) -> str:
    route = part(attempt.status, "route")
    name = text(route, "virtualService")
    if not name:
        return ""
    port = number(route, "port")
    host = text(route, "host") + ("" if port is None else f":{port}")
    http = f", http route {text(route, 'http')}" if text(route, "http") else ""
    return f"VirtualService {name}{http}, host {host}"


def _trigger(attempt: Attempt, now: datetime) -> str:
    trigger = part(attempt.spec, "trigger")
    by = text(trigger, "by") or "api"
    user, reason, release = (text(trigger, key) for key in ("user", "reason", "id"))
    return (
        f"{short(now - attempt.created)} ago, by {by}"
        + (f" ({user})" if user else "")
        + (f": {reason}" if reason else "")
        + (f", release {release}" if release else "")
    )


def _step(attempt: Attempt, now: datetime) -> str:
    if attempt.step is None or attempt.is_terminal:
        return ""
    names = {"header": "header stage, before any weight", "bake": "bake, ready to go back"}
    name = names.get(attempt.step_text, attempt.step_text)
    left = attempt.left(now)
    if left is None:
        return name
    least, longest = left
    span = exact(least) if least == longest else f"{exact(least)} to {exact(longest)}"
    if not attempt.clock_runs:
        return f"{name}, clock stopped with {span} left"
    if not longest:
        return f"{name}, time over, waits for evidence"
    return f"{name}, {span} left" + ("" if least == longest else ", ends as soon as the evidence is there")


def _weight(attempt: Attempt) -> str:
    if attempt.configured is None:
        return ""
    desired = number(attempt.status, "weight", "desired")
    wanted = f"{desired}% wanted, " if desired not in (None, attempt.configured) else ""
    observed = "not observed yet" if attempt.observed is None else f"{attempt.observed}% observed"
    return f"{wanted}{attempt.configured}% configured, {observed}"


def _retry(attempt: Attempt, now: datetime) -> str:
    sentence, at = text(attempt.status, "retry", "sentence"), moment(attempt.status, "retry", "at")
    if at is None:
        return sentence
    when = f"in {exact(at - now)} ({at:%H:%M:%S} UTC)" if at > now else f"due since {at:%H:%M:%S} UTC"
    return f"{when}: {sentence}"


def _verdict(attempt: Attempt, now: datetime) -> str:
    verdict = part(attempt.status, "verdict")
    sentence, outcome = text(verdict, "sentence"), text(verdict, "outcome")
    at = moment(verdict, "at")
    when = f" ({short(now - at)} ago)" if at is not None and now - at >= timedelta(seconds=1) else ""
    return f"{outcome}: {sentence}{when}" if sentence else ""


def _message(attempt: Attempt) -> str:
    """The controller's own line, where no other line says the same."""
    message = text(attempt.status, "message")
    said = (attempt.stalled, text(attempt.status, "cause", "sentence"), text(attempt.status, "verdict", "sentence"))
    return "" if message in said else message


def _drift(attempt: Attempt, now: datetime) -> str:
    drift = part(attempt.status, "drift")
    since = moment(drift, "since")
    if since is None:
        return ""
    manager = text(drift, "manager") or "somebody else"
    return f"{manager} moved our weights {short(now - since)} ago; set again {number(drift, 'reasserted') or 0} times"


def _history(attempt: Attempt, now: datetime) -> Iterator[tuple[str, str]]:
    entries = list(parts(attempt.status, "history"))
    dropped = (number(attempt.status, "historyDropped") or 0) + max(0, len(entries) - HISTORY_LINES)
    if entries:
        yield "History", "newest last" + (f", {dropped} earlier left out" if dropped else "")
    for entry in entries[-HISTORY_LINES:]:
        at, weight = moment(entry, "at"), number(entry, "weight")
        when = f"{short(now - at)} ago" if at is not None else ""
        where = text(entry, "phase") + ("" if weight is None else f" {weight}%")
        yield f"{when:>{LABEL_WIDTH}}", f"{where}: {text(entry, 'sentence')}"
