"""The controller's account on a real cluster, with exactly the rights that are shipped: nothing runs here as admin.

What an installation does by `kubectl apply -k deploy/rbac`, and the admins of namespaces by a RoleBinding each.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from canary.sandbox.realapi.server import RealApiServer
from canary.shipped import shipped

NAMESPACE, NAME = "canary-system", "canary"
WRITES = "canary-writes"

_A_MONTH_S = 30 * 24 * 3600
"""Nobody exchanges this token, and a sandbox may stay up for days."""


def controller_account(server: RealApiServer, namespaces: Collection[str], kubeconfig: Path) -> Path:
    """Make the account and its roles, and let it into these namespaces; writes and returns its kubeconfig.

    The namespace canary-system and the CRDs are there already. Raises SandboxError with kubectl's words.
    """
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}}
    objects = [account, *(_binding(namespace) for namespace in namespaces)]
    server.kubectl("apply", "--server-side", "-k", shipped("deploy") / "rbac")
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    server.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))
    return server.kubeconfig_for(server.token(NAMESPACE, NAME, seconds=_A_MONTH_S), kubeconfig)


def _binding(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": WRITES, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": WRITES},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }
