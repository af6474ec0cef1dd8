"""Does a controller live? Its member Lease says so; without one nothing that is asked for happens (exit 8)."""

from __future__ import annotations

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import LEASE
from canary.cluster.leases import MEMBER_PREFIX, MEMBERS, controller_is_alive
from canary.cluster.timestamps import utc_now
from canary.errors import ClusterError


def no_controller(gateway: Gateway, namespace: str) -> str:
    """A sentence when no controller lives, empty when one does or when nobody lets us know.

    One list of the member Leases, which needs one right: `list` on Leases in the controllers' namespace. A caller
    without it, or an API server that does not answer, is no proof of death.
    """
    remedy = "start one with `canary run`, or name its namespace with --controller-namespace"
    try:
        members, _ = gateway.list(LEASE, namespace, label_selector=MEMBERS)
    except ClusterError:
        return ""
    now = utc_now()
    if any(controller_is_alive(member, now) for member in members):
        return ""
    if not members:
        return f"no controller lives: there is no Lease {namespace}/{MEMBER_PREFIX}*; {remedy}"
    newest = max(members, key=lambda member: str((member.get("spec") or {}).get("renewTime") or ""))
    return f"no controller lives: the Lease {namespace}/{newest['metadata']['name']} is not renewed; {remedy}"
