"""`canary backtest`: recorded figures through a policy. What it would have decided, when, and why. Writes nothing.

Three questions: a rollout as it was, two Deployments as if they had been a rollout, and a service's own healthy past.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from canary.analysis.backtest import Backtest, judged, walked
from canary.analysis.judge import Judge
from canary.analysis.walk import Timing
from canary.cli import metrics_source as metrics
from canary.cli.backtest_document import Subject
from canary.cli.backtest_text import show_backtest, show_past
from canary.cli.options import Context, Kubeconfig, Namespace, Output, OutputOption, duration
from canary.cli.own_past import own_past
from canary.cli.policy import Folder, chosen
from canary.cli.reach import reach
from canary.cli.recorded import ended, of_pair, of_rollout, utc
from canary.cli.release import policy_of, release_of, rollout_of
from canary.cli.terminal import complain
from canary.cli.window_file import read_windows
from canary.daemon import logs
from canary.daemon.windows import PROPAGATION_S
from canary.errors import InputError
from canary.model.policy import Policy
from canary.model.rollout import Rollout
from canary.model.units import parse_time
from canary.telemetry.queries import Workload
from canary.telemetry.settings import SourceSettings

LOOK_BACK_S = 7200.0


def register(app: typer.Typer) -> None:
    app.command("backtest")(backtest)


def span(text: str) -> timedelta:
    """A duration, also in days: "30d", "2h"."""
    days = re.fullmatch(r"([0-9]{1,4})d", text)
    return timedelta(days=int(days[1])) if days else duration(text)


def moment(text: str) -> float:
    """Unix seconds of "2h" (ago) or "2026-11-21T14:00:00Z"; typer turns BadParameter into a usage error."""
    with contextlib.suppress(typer.BadParameter):
        return time.time() - span(text).total_seconds()
    try:
        return parse_time(text).timestamp()
    except ValueError as error:
        wanted = 'must be a duration ago like "2h" or a time like "2026-11-21T14:00:00Z"'
        raise typer.BadParameter(f"{wanted}, not {text!r}") from error


def backtest(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A rollout, or a Deployment (its newest attempt).")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="A policy's name, or its file; default: the rollout's own.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Windows, or a record, instead.", show_default=False),
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(parser=moment, metavar="AGO|TIME", help="From then on; default: the rollout's beginning, or 2h."),
    ] = None,
    until: Annotated[
        float | None, typer.Option(parser=moment, metavar="AGO|TIME", help="Default: the rollout's end, or now.")
    ] = None,
    canary: Annotated[str, typer.Option(help="The canary's Deployment, where there was no rollout.")] = "",
    stable: Annotated[str, typer.Option(help="Stable's Deployment, where there was no rollout.")] = "",
    healthy: Annotated[
        timedelta | None,
        typer.Option(parser=span, metavar="SPAN", help="How often its own past would be rolled back: 30d."),
    ] = None,
    splits: Annotated[int, typer.Option(min=1, max=100, help="Pretended rollouts per hour, with --healthy.")] = 3,
    seed: Annotated[int, typer.Option(help="Another one splits otherwise, with --healthy.")] = 1,
    policies: Folder = None,
    output: OutputOption = Output.TABLE,
    prometheus: metrics.Prometheus = None,
    tile: metrics.Tile = "auto",  # type: ignore[assignment]
    settle: metrics.Settle = "auto",  # type: ignore[assignment]
    prometheus_timeout: metrics.PrometheusTimeout = "5s",  # type: ignore[assignment]
    prometheus_header: metrics.PrometheusHeader = None,
    prometheus_bearer_token_file: metrics.BearerTokenFile = None,
    prometheus_username: metrics.Username = None,
    prometheus_password_file: metrics.PasswordFile = None,
    prometheus_ca_file: metrics.CaFile = None,
    trusted_namespaces: metrics.TrustedNamespaces = "",
    reporter: metrics.Reporter = "auto",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """What a policy would have decided on recorded figures; with --healthy, how often it would be wrong."""
    if output is Output.NAME:
        raise typer.BadParameter("-o name says nothing here: table, wide, json or yaml")
    _check(name, file, canary, stable, healthy)
    logs.configure("console", "error")
    if file is not None:
        _from_file(file, policy, policies, output)
        return
    settings = metrics.settings_of(
        prometheus,
        timeout=prometheus_timeout,
        headers=prometheus_header,
        bearer_token_file=prometheus_bearer_token_file,
        username=prometheus_username,
        password_file=prometheus_password_file,
        ca_file=prometheus_ca_file,
        trusted_namespaces=trusted_namespaces,
        reporter=reporter,
    )
    cluster = reach(kubeconfig, context, namespace)
    assert cluster.namespace is not None, "reach gives one namespace"
    over = Over(settings, tile, settle, since, until)
    if healthy is not None:
        release = release_of(cluster, name, policy, policies) if name else None
        found = release.policy if release else _needed(policy, policies)
        workload = Workload(cluster.namespace, stable or (release.stable if release else ""))
        past = own_past(over.ask(until), workload, found, span_s=healthy.total_seconds(), until=over.end,
                        splits=splits, seed=seed, tell=_progress)  # fmt: skip
        show_past(past, output)
        return
    rollout = rollout_of(cluster, name) if name and not canary else None
    if rollout is not None:
        show_backtest(*over.rollout(rollout, policy_of(rollout, policy, policies)), output)
        return
    if name and not canary:
        release = release_of(cluster, name, policy, policies)
        canary, stable, found = release.target, release.stable, release.policy
        if canary == stable:
            raise InputError(f"{name} is stable and has no rollout: name two Deployments with --canary and --stable")
    else:
        found = _needed(policy, policies)
    show_backtest(*over.pair(Workload(cluster.namespace, canary), Workload(cluster.namespace, stable), found), output)


@dataclass(frozen=True, slots=True)
class Over:
    """A metrics source and a stretch of time (Unix seconds); None: as the subject itself says."""

    settings: SourceSettings
    tile: timedelta | None
    settle: timedelta | None
    since: float | None
    until: float | None

    @property
    def end(self) -> float:
        return time.time() if self.until is None else self.until

    def ask(self, at: float | None, tile: timedelta | None = None) -> metrics.Asked:
        return metrics.ask(self.settings, self.tile or tile, self.settle, at)

    def rollout(self, rollout: Rollout, policy: Policy) -> tuple[Subject, Backtest]:
        """A rollout's steps as they were. Its last one ends with it."""
        over = ended(rollout)
        end = min(self.end, over) if over else self.end
        asked = self.ask(end, rollout.status.tile)
        found = of_rollout(asked, rollout, policy, self.since or 0.0, end)
        timing = _timing(policy, asked.tile_s, asked.settle_s)
        try:
            result = judged(Judge(policy, found.baseline), found.windows, timing, found.tiles)
        except ValueError as error:
            raise InputError(f"policy {policy.name} cannot judge {rollout.name}: {error}") from error
        status = rollout.status
        sentence = status.cause.sentence if status.cause else status.verdict.sentence if status.verdict else ""
        subject = Subject(
            f"{rollout.name}, its steps as they were",
            policy,
            asked.tile_s,
            found.began,
            found.until,
            baseline=found.baseline,
            really=f"{status.phase}" + (f" at {utc(over)}" if over else ""),
            really_said=sentence,
        )
        return subject, result

    def pair(self, canary: Workload, stable: Workload, policy: Policy) -> tuple[Subject, Backtest]:
        """Two Deployments as if they had been a rollout of `policy`."""
        asked = self.ask(self.until)
        found = of_pair(asked, canary, stable, policy, self.since or self.end - LOOK_BACK_S, self.end)
        timing = _timing(policy, asked.tile_s, asked.settle_s)
        try:
            result = walked(policy, Judge(policy, found.baseline), found.tiles, timing, found.began)
        except ValueError as error:
            raise InputError(f"policy {policy.name} cannot judge {canary.name}: {error}") from error
        what = f"{canary.name} against {stable.name}, in the steps that the policy would have made"
        return Subject(what, policy, asked.tile_s, found.began, found.until, baseline=found.baseline), result


def _check(name: str | None, file: Path | None, canary: str, stable: str, healthy: timedelta | None) -> None:
    if healthy is not None:
        if file or canary or bool(name) == bool(stable):
            raise typer.BadParameter("--healthy is about a NAME, or about --stable")
    elif file is not None and (name or canary or stable):
        raise typer.BadParameter("--file speaks for itself: leave out NAME, --canary and --stable")
    elif file is None and not name and not (canary and stable):
        raise typer.BadParameter("say what: a NAME, --canary and --stable, --file, or --healthy")


def _from_file(file: Path, policy: str | None, policies: Path | None, output: Output) -> None:
    read = read_windows(file)
    found = chosen(policy, policies) if policy else read.policy
    if found is None:
        raise InputError(f"{file} does not say by which policy: --policy NAME")
    timing = _timing(found, read.tile_s, read.settle_s)
    judge = Judge(found, read.baseline)
    try:
        result = judged(judge, read.windows, timing, read.windows)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error
    first, last = read.windows[0], read.windows[-1]
    subject = Subject(str(file), found, read.tile_s, first.start, last.end, baseline=read.baseline, note=read.note)
    show_backtest(subject, result, output)


def _timing(policy: Policy, tile_s: float, settle_s: float) -> Timing:
    interval_s = policy.outlier_detection.interval.total_seconds()
    return Timing(tile_s, settle_s, PROPAGATION_S, lag_s=tile_s, interval_s=max(interval_s, tile_s))


def _needed(policy: str | None, policies: Path | None) -> Policy:
    if policy is None:
        raise typer.BadParameter("say --policy: nothing here names one")
    return chosen(policy, policies)


def _progress(done: int, of: int) -> None:
    if done == of or done % 24 == 0:
        complain(f"{done} of {of} hours judged")
