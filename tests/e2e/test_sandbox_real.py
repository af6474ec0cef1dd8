"""The sandbox on a real kube-apiserver, with Kubernetes' own controllers and Istio's own definitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from canary.cluster.kinds import CRD, POD, REPLICASET
from canary.model.rollout import Phase
from canary.sandbox import example
from canary.sandbox.cluster import Sandbox, Settings
from canary.sandbox.load import Tally
from canary.sandbox.state import Identity

POLICY = """\
name: quick
strategy: {weights: [10, 50, 100], hold: 3s}
analysis: {warmup: 1s, minRequests: 100, errorRate: {max: 1%}, p99: {max: 1s}, maxWait: 60s}
outlierDetection: {consecutive5xxErrors: 5, interval: 2s, baseEjectionTime: 30s, maxEjectionPercent: 100}
"""
"""Its P99 limit is far above what a busy machine adds by itself."""

pytestmark = [pytest.mark.slow, pytest.mark.real]


def test_on_a_real_api_server_a_good_release_is_promoted_and_a_bad_one_rolled_back(
    start_sandbox: Callable[[Settings], Sandbox], tmp_path: Path
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "quick.yaml").write_text(POLICY)
    sandbox = start_sandbox(Settings(real=True, record=True, policies=tmp_path / "policies"))
    names = {definition["metadata"]["name"] for definition in sandbox.gateway.list(CRD)[0]}
    assert {"serviceentries.networking.istio.io", "canaryrollouts.canary.delivery"} <= names

    good = sandbox.release("v2", policy="quick")
    promoted = sandbox.wait_rollout(good, lambda rollout: rollout.status.phase is Phase.SUCCEEDED, 180)
    assert sandbox.weights() == {"v2": 100}
    bad = sandbox.release("v5", example.FAILS_ALWAYS, policy="quick")
    rolled_back = sandbox.wait_rollout(bad, lambda rollout: rollout.status.phase is Phase.ROLLED_BACK, 120)

    assert "near-total failure" in rolled_back.status.message
    assert sandbox.weights() == {"v2": 100}
    replicasets, _ = sandbox.gateway.list(REPLICASET, example.NAMESPACE)
    makers = {entry["manager"] for found in replicasets for entry in found["metadata"]["managedFields"]}
    assert makers == {"kube-controller-manager"}
    assert promoted.status.target_revision in {
        found["metadata"]["labels"]["pod-template-hash"] for found in replicasets
    }
    pods, _ = sandbox.gateway.list(POD, example.NAMESPACE)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"sandbox"}
    sandbox.callers.stop()
    assert sandbox.callers.record is not None
    assert Tally.read(sandbox.callers.record).lost == 0

    processes = [Identity.of(name, pid) for name, pid in sandbox.pids.items()]
    assert {"etcd", "kube-apiserver", "kube-controller-manager"} <= {process.name for process in processes}
    sandbox.stop()
    assert [process.name for process in processes if process.is_alive] == []
