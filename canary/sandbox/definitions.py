"""Custom resources for a cluster that was just started: Istio's and canary's, and when the API server serves them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import CRD
from canary.errors import SandboxError
from canary.shipped import shipped

EMBEDDED_ISTIO = Path(__file__).parent / "istio_crds.yaml"
"""The names and versions of the two kinds canary uses, for a server that knows no more of them."""

_SERVED_SECONDS = 30.0
_POLL_SECONDS = 0.05


def canary_definition() -> dict[str, Any]:
    """The CustomResourceDefinition of CanaryRollout, as it is shipped."""
    found: dict[str, Any] = yaml.safe_load((shipped("deploy") / "crd.yaml").read_text(encoding="utf-8"))
    return found


def all_definitions(istio: Path = EMBEDDED_ISTIO) -> list[dict[str, Any]]:
    """Those of a sandbox: ours and Istio's."""
    return [canary_definition(), *read_definitions(istio)]


def read_definitions(file: Path, only: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Those in a YAML stream; with `only`, of these `plural.group` names."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Istio's are a megabyte: 5 s or 0.5 s
    for found in yaml.load_all(file.read_text(encoding="utf-8"), Loader=loader):
        if found and (only is None or found["metadata"]["name"] in only):
            yield found


def install(gateway: Gateway, definitions: Collection[Mapping[str, Any]]) -> None:
    """Apply each, and return once all of them are served.

    Raises ClusterError when one is refused, SandboxError when one is not served within half a minute.
    """
    for definition in definitions:
        gateway.patch(CRD, None, definition["metadata"]["name"], definition, patch_type="apply", force=True)
    deadline = time.monotonic() + _SERVED_SECONDS
    waiting = [definition["metadata"]["name"] for definition in definitions]
    while waiting := [name for name in waiting if not _is_served(gateway.get(CRD, None, name))]:
        if time.monotonic() >= deadline:
            raise SandboxError(f"not served within {_SERVED_SECONDS:g} s: {', '.join(waiting)}")
        time.sleep(_POLL_SECONDS)


def _is_served(definition: Mapping[str, Any]) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
