"""On which nodes a version's pods are: whose processor time counts as noise. From memory, once for a whole tick."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from canary.cluster import workloads
from canary.cluster.kinds import DEPLOYMENT, POD, REPLICASET
from canary.daemon.caches import Caches
from canary.model.rollout import ArmStatus

NOWHERE: frozenset[str] = frozenset()


class Nodes:
    """The nodes of the pods in some namespaces, as the caches had them when this was made."""

    def __init__(self, caches: Caches, namespaces: Iterable[str]) -> None:
        self._by_revision: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for namespace in set(namespaces):
            deployments = {item["metadata"]["uid"]: item["metadata"]["name"]
                           for item in caches.objects(DEPLOYMENT, namespace)}  # fmt: skip
            revisions: dict[str, tuple[str, str]] = {}
            for replicaset in caches.objects(REPLICASET, namespace):
                deployment = deployments.get(workloads.owner_uid(replicaset))
                revision = replicaset["metadata"].get("labels", {}).get(workloads.TEMPLATE_HASH)
                if deployment is not None and revision is not None:
                    revisions[replicaset["metadata"]["uid"]] = deployment, revision
            for pod in caches.objects(POD, namespace):
                owner, node = revisions.get(workloads.owner_uid(pod)), pod.get("spec", {}).get("nodeName")
                if owner is not None and node and workloads.is_ready(pod):
                    self._by_revision[namespace, *owner].add(node)

    def of(self, namespace: str, arm: ArmStatus | None) -> frozenset[str]:
        """Where the ready pods of a version's pinned revision are."""
        if arm is None:
            return NOWHERE
        return frozenset(self._by_revision.get((namespace, arm.deployment, arm.revision), NOWHERE))
