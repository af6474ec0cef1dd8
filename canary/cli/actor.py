"""Who says so: the name that goes with a wish or a start.

Only a claim by itself. Where the admission policies are installed the API server writes it (Kubernetes 1.36) or refuses
another's name (docs/security.md, row 13); both cut a long name as it is cut here.
"""

from __future__ import annotations

from getpass import getuser

from canary.cli.terminal import safe
from canary.cluster.access import own_name
from canary.cluster.gateway import Gateway
from canary.errors import ClusterError


def actor(gateway: Gateway) -> str:
    """The user the API server sees, else the one of this machine, else nobody. Never fails."""
    try:
        seen = own_name(gateway)
    except ClusterError:
        seen = ""  # an API server before 1.28, or one that does not let everybody ask
    return safe(seen, 256) or _local_user()


def _local_user() -> str:
    try:
        return safe(getuser(), 256)
    except (KeyError, OSError):  # a container's uid has no name
        return ""
