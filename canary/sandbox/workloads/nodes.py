"""The nodes of the sandbox: names and nothing behind them. All processes run on this machine, whatever their node.

A Deployment chooses one as it would in a cluster, by a nodeSelector on `kubernetes.io/hostname`; so what is said of a
node (how much processor time it loses) can be said of one version's pods alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HOSTNAME = "kubernetes.io/hostname"
NODE = "sandbox"
"""Where a pod is that asks for nothing. The others are called `sandbox-<anything>`."""


def is_ours(node: str) -> bool:
    """Whether a node is one of the sandbox's: a pod elsewhere belongs to somebody's real kubelet."""
    return node == NODE or node.startswith(f"{NODE}-")


def node_of(spec: Mapping[str, Any]) -> str:
    """The node of a pod with this spec: the one it names, the sandbox's own that it selects, else `NODE`.

    A selector for any other node is ignored, as the image is: users' own manifests run here unchanged.
    """
    selected = str((spec.get("nodeSelector") or {}).get(HOSTNAME, ""))
    return str(spec.get("nodeName") or (selected if is_ours(selected) else NODE))
