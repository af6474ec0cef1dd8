"""`canary run`: the controller's command line. Every option may come from the environment as `CANARY_…`."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from canary.cli.options import duration
from canary.errors import InputError


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


def auto(text: str) -> timedelta | None:
    """A duration, or None for "auto"."""
    return None if text == "auto" else duration(text)


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else time.total_seconds()


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
    listen: Annotated[
        str, typer.Option(envvar="CANARY_LISTEN", help="Address of /healthz, /readyz and /metrics.")
    ] = "127.0.0.1:8080",
    tile: Annotated[
        timedelta | None,
        typer.Option(parser=auto, metavar="DURATION", envvar="CANARY_TILE", help="auto: the scrape interval found."),
    ] = "auto",  # type: ignore[assignment]
    tick: Annotated[
        timedelta | None,
        typer.Option(parser=auto, metavar="DURATION", envvar="CANARY_TICK", help="Time between looks; auto: a tile."),
    ] = "auto",  # type: ignore[assignment]
    settle: Annotated[
        timedelta | None,
        typer.Option(
            parser=auto,
            metavar="DURATION",
            envvar="CANARY_SETTLE",
            help="Age from which a tile is final; auto: 2s, or twice the longest scrape.",
        ),
    ] = "auto",  # type: ignore[assignment]
    abort_period: Annotated[
        timedelta,
        typer.Option(parser=duration, metavar="DURATION", envvar="CANARY_ABORT_PERIOD", help="Fast abort looks."),
    ] = "250ms",  # type: ignore[assignment]
    prometheus_timeout: Annotated[
        timedelta, typer.Option(parser=duration, metavar="DURATION", envvar="CANARY_PROMETHEUS_TIMEOUT")
    ] = "5s",  # type: ignore[assignment]
    prometheus_header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", envvar="CANARY_PROMETHEUS_HEADER", help="For a tenant; may be repeated."),
    ] = None,
    prometheus_bearer_token_file: Annotated[
        Path | None, typer.Option(envvar="CANARY_PROMETHEUS_BEARER_TOKEN_FILE")
    ] = None,
    prometheus_username: Annotated[str | None, typer.Option(envvar="CANARY_PROMETHEUS_USERNAME")] = None,
    prometheus_password_file: Annotated[Path | None, typer.Option(envvar="CANARY_PROMETHEUS_PASSWORD_FILE")] = None,
    prometheus_ca_file: Annotated[Path | None, typer.Option(envvar="CANARY_PROMETHEUS_CA_FILE")] = None,
    trusted_namespaces: Annotated[
        str,
        typer.Option(
            envvar="CANARY_TRUSTED_NAMESPACES",
            help="Comma-separated: whose proxies are believed about requests they sent; default: all scraped ones.",
        ),
    ] = "",
    reporter: Annotated[
        str, typer.Option(envvar="CANARY_REPORTER", help="auto, source, waypoint or destination.")
    ] = "auto",
    log_format: Annotated[LogFormat, typer.Option(envvar="CANARY_LOG_FORMAT")] = LogFormat.JSON,
    log_level: Annotated[str, typer.Option(envvar="CANARY_LOG_LEVEL")] = "info",
) -> None:
    """Run the controller until SIGTERM.

    It watches Deployments annotated with canary.delivery/policy and CanaryRollouts, moves the weights of their Istio
    VirtualService, and judges each step by Prometheus.
    """
    from canary.daemon import logs
    from canary.daemon.run import Daemon
    from canary.daemon.settings import Settings
    from canary.shipped import shipped
    from canary.telemetry.settings import SourceSettings

    if bool(namespace) == all_namespaces:
        raise typer.BadParameter("say which namespaces to serve: --namespace NAME, or --all-namespaces")
    logs.configure(log_format.value, log_level)
    source = SourceSettings(
        url=prometheus,
        timeout_s=prometheus_timeout.total_seconds(),
        headers=dict(_header(text) for text in prometheus_header or ()),
        bearer_token_file=prometheus_bearer_token_file,
        username=prometheus_username,
        password_file=prometheus_password_file,
        ca_file=prometheus_ca_file,
        trusted_namespaces=frozenset(name.strip() for name in trusted_namespaces.split(",") if name.strip()),
        reporter=reporter,
    )
    settings = Settings(
        policies=policies or shipped("policies"),
        source=source,
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
        own_namespace=own_namespace,
        listen=listen,
        tile_s=_seconds(tile),
        tick_s=_seconds(tick),
        settle_s=_seconds(settle),
        abort_period_s=abort_period.total_seconds(),
    )
    Daemon(settings).run()


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise InputError("--prometheus-header must be NAME:VALUE")
    return name.strip(), value.strip()


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("run")(run)
