"""`canary run`: the controller's command line. Every option may come from the environment as `CANARY_…`."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from canary.cli import metrics_source as metrics
from canary.cli.metrics_source import auto
from canary.cli.options import duration


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


def run(
    prometheus: Annotated[
        str, typer.Option("--prometheus", envvar="CANARY_PROMETHEUS", help="http(s)://host:port of Prometheus.")
    ],
    kubeconfig: Annotated[str | None, typer.Option(envvar="CANARY_KUBECONFIG", help="In a pod: none needed.")] = None,
    context: Annotated[str | None, typer.Option(envvar="CANARY_CONTEXT")] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", envvar="CANARY_NAMESPACE", help="Serve this namespace only.")
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", envvar="CANARY_ALL_NAMESPACES", help="Serve all namespaces.")
    ] = False,
    own_namespace: Annotated[
        str,
        typer.Option(envvar="CANARY_OWN_NAMESPACE", help="Where the controller keeps its Lease and frozen policies."),
    ] = "canary-system",
    policies: Annotated[
        Path | None, typer.Option(envvar="CANARY_POLICIES", help="Folder of policies; default: the shipped ones.")
    ] = None,
    floor: Annotated[
        str,
        typer.Option(
            envvar="CANARY_FLOOR",
            help="Name of the policy that rollouts must not fall below where their Namespace's label names none.",
        ),
    ] = "",
    max_rollouts_per_namespace: Annotated[
        int,
        typer.Option(
            min=1,
            envvar="CANARY_MAX_ROLLOUTS_PER_NAMESPACE",
            help="Unfinished rollouts of one namespace that are looked at; the others wait.",
        ),
    ] = 200,
    listen: Annotated[
        str, typer.Option(envvar="CANARY_LISTEN", help="Address of /healthz, /readyz and /metrics.")
    ] = "127.0.0.1:8080",
    tile: metrics.Tile = "auto",  # type: ignore[assignment]
    tick: Annotated[
        timedelta | None,
        typer.Option(parser=auto, metavar="DURATION", envvar="CANARY_TICK", help="Time between looks; auto: a tile."),
    ] = "auto",  # type: ignore[assignment]
    settle: metrics.Settle = "auto",  # type: ignore[assignment]
    abort_period: Annotated[
        timedelta,
        typer.Option(parser=duration, metavar="DURATION", envvar="CANARY_ABORT_PERIOD", help="Fast abort looks."),
    ] = "250ms",  # type: ignore[assignment]
    prometheus_timeout: metrics.PrometheusTimeout = "5s",  # type: ignore[assignment]
    prometheus_header: metrics.PrometheusHeader = None,
    prometheus_bearer_token_file: metrics.BearerTokenFile = None,
    prometheus_username: metrics.Username = None,
    prometheus_password_file: metrics.PasswordFile = None,
    prometheus_ca_file: metrics.CaFile = None,
    trusted_namespaces: metrics.TrustedNamespaces = "",
    control_plane_namespace: Annotated[
        str,
        typer.Option(
            envvar="CANARY_CONTROL_PLANE_NAMESPACE",
            help='Where istiod is scraped, whose trouble explains slow requests; "": anywhere.',
        ),
    ] = "istio-system",
    reporter: metrics.Reporter = "auto",
    log_format: Annotated[LogFormat, typer.Option(envvar="CANARY_LOG_FORMAT")] = LogFormat.JSON,
    log_level: Annotated[str, typer.Option(envvar="CANARY_LOG_LEVEL")] = "info",
) -> None:
    """Run the controller until SIGTERM.

    It watches Deployments annotated with canary.delivery/policy and CanaryRollouts, moves the weights of their Istio
    VirtualService, and judges each step by Prometheus.
    """
    from canary.daemon import interpreter, logs
    from canary.daemon.run import Daemon
    from canary.daemon.settings import Settings
    from canary.shipped import shipped

    if bool(namespace) == all_namespaces:
        raise typer.BadParameter("say which namespaces to serve: --namespace NAME, or --all-namespaces")
    logs.configure(log_format.value, log_level)
    source = metrics.settings_of(
        prometheus,
        timeout=prometheus_timeout,
        headers=prometheus_header,
        bearer_token_file=prometheus_bearer_token_file,
        username=prometheus_username,
        password_file=prometheus_password_file,
        ca_file=prometheus_ca_file,
        trusted_namespaces=trusted_namespaces,
        reporter=reporter,
        control_plane_namespace=control_plane_namespace,
    )
    settings = Settings(
        policies=policies or shipped("policies"),
        source=source,
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
        own_namespace=own_namespace,
        floor=floor,
        namespace_limit=max_rollouts_per_namespace,
        listen=listen,
        tile_s=metrics.seconds(tile),
        tick_s=metrics.seconds(tick),
        settle_s=metrics.seconds(settle),
        abort_period_s=abort_period.total_seconds(),
    )
    interpreter.prepare()  # here and not in the daemon: the process is ours alone only as a command
    Daemon(settings).run()


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("run")(run)
