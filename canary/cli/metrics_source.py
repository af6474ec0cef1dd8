"""The options of commands that read Prometheus, spelled as `canary run` spells them, and the source they lead to.

Read only. What the controller would refuse to judge by is refused here too, with the same sentence.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from canary.cli.options import duration
from canary.daemon.sourcewatch import SourceWatch
from canary.daemon.surroundings import Exported
from canary.errors import InputError, TelemetryAnswer
from canary.telemetry.preflight import SourceFacts
from canary.telemetry.settings import SourceSettings
from canary.telemetry.source import PrometheusSource


def auto(text: str) -> timedelta | None:
    """A duration, or None for "auto"."""
    return None if text == "auto" else duration(text)


Prometheus = Annotated[
    str | None,
    typer.Option("--prometheus", envvar="CANARY_PROMETHEUS", help="http(s)://host:port.", show_default=False),
]
PrometheusTimeout = Annotated[
    timedelta,
    typer.Option("--prometheus-timeout", parser=duration, metavar="DURATION", envvar="CANARY_PROMETHEUS_TIMEOUT"),
]
PrometheusHeader = Annotated[
    list[str] | None,
    typer.Option(
        "--prometheus-header",
        metavar="NAME:VALUE",
        envvar="CANARY_PROMETHEUS_HEADER",
        help="For a tenant; may be repeated.",
    ),
]
BearerTokenFile = Annotated[
    Path | None, typer.Option("--prometheus-bearer-token-file", envvar="CANARY_PROMETHEUS_BEARER_TOKEN_FILE")
]
Username = Annotated[str | None, typer.Option("--prometheus-username", envvar="CANARY_PROMETHEUS_USERNAME")]
PasswordFile = Annotated[
    Path | None, typer.Option("--prometheus-password-file", envvar="CANARY_PROMETHEUS_PASSWORD_FILE")
]
CaFile = Annotated[Path | None, typer.Option("--prometheus-ca-file", envvar="CANARY_PROMETHEUS_CA_FILE")]
TrustedNamespaces = Annotated[
    str,
    typer.Option(
        "--trusted-namespaces",
        envvar="CANARY_TRUSTED_NAMESPACES",
        help="Comma-separated: whose proxies are believed about requests they sent; default: all scraped ones.",
    ),
]
Reporter = Annotated[
    str, typer.Option("--reporter", envvar="CANARY_REPORTER", help="auto, source, waypoint or destination.")
]
Tile = Annotated[
    timedelta | None,
    typer.Option(
        "--tile", parser=auto, metavar="DURATION", envvar="CANARY_TILE", help="auto: the scrape interval found."
    ),
]
Settle = Annotated[
    timedelta | None,
    typer.Option(
        "--settle",
        parser=auto,
        metavar="DURATION",
        envvar="CANARY_SETTLE",
        help="Age from which a tile is final; auto: 2s, or twice the longest scrape.",
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A metrics source, and what it says of itself. Seconds."""

    source: PrometheusSource
    facts: SourceFacts
    tile_s: float
    settle_s: float
    exported: Exported


def settings_of(
    url: str | None,
    *,
    timeout: timedelta,
    headers: Sequence[str] | None,
    bearer_token_file: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    trusted_namespaces: str,
    reporter: str,
    control_plane_namespace: str = "istio-system",
) -> SourceSettings:
    """The settings of these options. Raises InputError for what cannot work, or without an address."""
    if not url:
        raise InputError("say where Prometheus is: --prometheus http(s)://host:port, or CANARY_PROMETHEUS")
    return SourceSettings(
        url=url,
        timeout_s=timeout.total_seconds(),
        headers=dict(_header(text) for text in headers or ()),
        bearer_token_file=bearer_token_file,
        username=username,
        password_file=password_file,
        ca_file=ca_file,
        trusted_namespaces=frozenset(name.strip() for name in trusted_namespaces.split(",") if name.strip()),
        reporter=reporter,
        control_plane_namespace=control_plane_namespace,
    )


def ask(settings: SourceSettings, tile: timedelta | None, settle: timedelta | None, at: float | None = None) -> Asked:
    """The source, asked what it is now, or was `at` a time (Unix seconds).

    Raises TelemetryError when it is away, or nothing can be counted by it.
    """
    source = PrometheusSource(settings, wall=time.time if at is None else lambda: at)
    watch = SourceWatch(source, seconds(tile), seconds(settle))
    facts = watch.facts = source.facts()
    if facts.blocking:
        raise TelemetryAnswer(facts.blocking)
    return Asked(source, facts, watch.tile_s, watch.settle_s, watch.exported)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise InputError("--prometheus-header must be NAME:VALUE")
    return name.strip(), value.strip()


def seconds(time: timedelta | None) -> float | None:
    """Of a duration, None for "auto"."""
    return None if time is None else time.total_seconds()
