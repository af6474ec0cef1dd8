"""Does a controller live? Its Lease says so; without one nothing that is asked for happens (exit 8)."""

from __future__ import annotations

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import LEASE
from canary.cluster.lease import LEASE_NAME, controller_is_alive
from canary.cluster.timestamps import utc_now
from canary.errors import ClusterError, NotFound


def no_controller(gateway: Gateway, namespace: str) -> str:
    """A sentence when no controller lives, empty when one does or when nobody lets us know.

    A caller without rights on the Lease, or an API server that does not answer, is no proof of death.
    """
    remedy = "start one with `canary run`, or name its namespace with --controller-namespace"
    try:
        lease = gateway.get(LEASE, namespace, LEASE_NAME)
    except NotFound:
        return f"no controller lives: there is no Lease {namespace}/{LEASE_NAME}; {remedy}"
    except ClusterError:
        return ""
    if controller_is_alive(lease, utc_now()):
        return ""
    return f"no controller lives: the Lease {namespace}/{LEASE_NAME} is not renewed; {remedy}"
