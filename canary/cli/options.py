"""The options that several commands share, spelled as kubectl spells them."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from canary.cli.terminal import safe
from canary.errors import InputError
from canary.model.units import parse_duration


class Output(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def duration(text: str) -> timedelta:
    """A duration from the command line; typer turns BadParameter into a usage error."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def checked_text(text: str, option: str, limit: int = 256) -> str:
    """What a person typed for a field of the object. Raises InputError for what the CRD would refuse."""
    if len(text) > limit or text != safe(text, limit):
        raise InputError(f"{option} must be one line of at most {limit} printable characters")
    return text


Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; default: the context's.", show_default=False)
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.", show_default=False)]
Kubeconfig = Annotated[
    str | None,
    typer.Option("--kubeconfig", help="Path of the kubeconfig; default: $KUBECONFIG.", show_default=False),
]
ControllerNamespace = Annotated[
    str,
    typer.Option(
        "--controller-namespace",
        envvar="CANARY_CONTROLLER_NAMESPACE",
        help="Where the controller keeps its Lease.",
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the result.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the object.", show_default=False)]
Timeout = Annotated[
    timedelta | None,
    typer.Option("--timeout", parser=duration, metavar="DURATION", help='Give up after, as in "30m" (exit 6).'),
]
RolloutName = Annotated[
    str, typer.Argument(metavar="NAME", help="A rollout, or a Deployment (its newest attempt): payment-v2, deploy/x.")
]

CONTROLLER_NAMESPACE = "canary-system"
