"""`canary plan`: what a rollout would do and be like, before there is one. Writes nothing, to nobody.

The router says what would be written, the real judge what would be noticed how soon, at the traffic of the last hour.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from canary.analysis.advice import Caution, cautions_of, retries_caution
from canary.analysis.forecast import Forecast, forecast
from canary.analysis.walk import Timing
from canary.cli import metrics_source as metrics
from canary.cli.measured import Measured, measure
from canary.cli.options import Context, Kubeconfig, Namespace, Output, OutputOption
from canary.cli.permits import permit_cautions
from canary.cli.policy import Folder
from canary.cli.reach import reach
from canary.cli.release import Release, release_of, release_of_file
from canary.cli.route_changes import Change, changes_of, retries_of
from canary.cli.terminal import complain
from canary.daemon.windows import PROPAGATION_S
from canary.mesh.istio.router import IstioRouter


@dataclass(frozen=True, slots=True)
class Plan:
    """All that `canary plan` found out. `changes` is empty where the new version is not there yet."""

    release: Release
    asked: metrics.Asked
    measured: Measured
    timing: Timing
    forecast: Forecast
    changes: tuple[Change, ...]
    cautions: tuple[Caution, ...]


def register(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A Deployment, or a rollout: payment-v2, crol/x.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="A CanaryRollout, not created yet.", show_default=False),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="A policy's name, or its file; default: what the object names."),
    ] = None,
    policies: Folder = None,
    seed: Annotated[int, typer.Option("--seed", help="Another one imagines other rollouts.")] = 1,
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
    """What a rollout would write at each step, how long it would take, and how soon it would notice what is wrong."""
    if (name is None) == (file is None):
        raise typer.BadParameter("give a NAME, or --file")
    if output is Output.NAME:
        raise typer.BadParameter("-o name says nothing here: table, wide, json or yaml")
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
    if file is not None:
        release = release_of_file(cluster, file, policy, policies)
    else:
        assert name is not None
        release = release_of(cluster, name, policy, policies)
    found = _planned(release, metrics.ask(settings, _tile(release, tile), settle), seed)
    permits = permit_cautions(cluster.gateway, release.namespace, release.policy, policies)
    found = replace(found, cautions=(*permits, *found.cautions))
    if output in (Output.JSON, Output.YAML):
        from canary.cli.documents import as_json, as_yaml
        from canary.cli.plan_document import document

        sys.stdout.write(as_json(document(found)) if output is Output.JSON else as_yaml(document(found)))
        return
    from canary.cli.plan_text import show

    show(found, wide=output is Output.WIDE)


def _tile(release: Release, wished: timedelta | None) -> timedelta | None:
    """A rollout under way has its tile pinned."""
    pinned = release.rollout.status.tile if release.rollout else None
    return wished or pinned


def _planned(release: Release, asked: metrics.Asked, seed: int) -> Plan:
    measured = measure(asked, release, time.time())
    changes = tuple(changes_of(release.view, release.route, release.policy)) if release.route else ()
    timing = Timing(asked.tile_s, asked.settle_s, PROPAGATION_S, lag_s=asked.tile_s)
    complain(f"imagining rollouts of {release.target} with the policy {release.policy.name} ...")
    found = forecast(release.policy, measured.traffic, measured.baseline, timing, seed=seed)
    cautions = cautions_of(release.policy, measured.traffic, measured.baseline, timing, found)
    retries = retries_of(release.view, release.route) if release.route else None
    if retries:
        cautions.append(retries_caution(*retries, asked.facts.reporter))
    if release.route:
        outside = IstioRouter().header_from_outside(release.view, release.route, release.policy.strategy.match)
        cautions += [Caution("header", f"{outside}.")] if outside else []
    cautions += [Caution("source", f"The metrics source: {problem}.") for problem in asked.facts.problems]
    return Plan(release, asked, measured, timing, found, changes, tuple(cautions))
