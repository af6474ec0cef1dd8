"""Projections keep what is read and nothing else; look-ups go by owner, not by label."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canary.cluster.kinds import POD
from canary.cluster.projections import (
    PROJECTIONS,
    project_deployment,
    project_pod,
    project_replicaset,
    project_whole,
)
from canary.cluster.workloads import (
    current_revision,
    is_ready,
    newest_replicaset,
    pods_of,
    ready_since,
    replicasets_of,
)

NOISE = {
    "managedFields": [{"manager": "kubectl"}],
    "selfLink": "/x",
    "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": "{...}",
        "deployment.kubernetes.io/revision": "2",
        "canary.delivery/policy": "standard",
    },
}


def raw_deployment(**metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "payment-v2", "namespace": "shop", "uid": "d", "generation": 4, **NOISE, **metadata},
        "spec": {
            "replicas": 2,
            "paused": False,
            "selector": {"matchLabels": {"app": "payment"}},
            "strategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"app": "payment"}}, "spec": {"containers": [{"image": "x"}]}},
        },
        "status": {"observedGeneration": 4, "readyReplicas": 2, "collisionCount": 1, "conditions": [{"type": "A"}]},
    }


def replicaset(uid: str, revision: str, template_hash: str, owner: str = "d") -> dict[str, Any]:
    return project_replicaset(
        {
            "metadata": {
                "name": f"payment-v2-{template_hash}",
                "uid": uid,
                "labels": {"pod-template-hash": template_hash},
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "ownerReferences": [{"uid": owner, "controller": True}],
            },
            "spec": {"replicas": 2, "template": {"spec": {}}},
        }
    )


def pod(ready_at: str | None, *, owner: str = "r", deleting: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "p", "ownerReferences": [{"uid": owner, "controller": True}]}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": "True" if ready_at else "False", "lastTransitionTime": ready_at}
    return project_pod({"metadata": metadata, "status": {"conditions": [{"type": "Initialized"}, condition]}})


def test_a_projected_deployment_has_what_is_read_and_no_more() -> None:
    projected = project_deployment(raw_deployment())

    assert projected == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "payment-v2",
            "namespace": "shop",
            "uid": "d",
            "generation": 4,
            "annotations": {"deployment.kubernetes.io/revision": "2", "canary.delivery/policy": "standard"},
        },
        "spec": {
            "replicas": 2,
            "paused": False,
            "selector": {"matchLabels": {"app": "payment"}},
            "template": {"metadata": {"labels": {"app": "payment"}}},
        },
        "status": {"observedGeneration": 4, "readyReplicas": 2, "conditions": [{"type": "A"}]},
    }


def test_a_projected_pod_keeps_its_ready_condition_alone() -> None:
    projected = project_pod(
        {
            "metadata": {"name": "p", "ownerReferences": [{"uid": "x"}, {"uid": "r", "controller": True}]},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "podIP": "127.1.2.3", "conditions": [{"type": "Ready"}, {"type": "Other"}]},
        }
    )

    assert projected["metadata"]["ownerReferences"] == [{"uid": "r", "controller": True}]
    assert projected["spec"] == {"nodeName": "n1"}
    assert projected["status"] == {"phase": "Running", "podIP": "127.1.2.3", "conditions": [{"type": "Ready"}]}


def test_a_route_is_kept_whole_and_the_object_it_came_from_is_left_alone() -> None:
    raw = {"kind": "VirtualService", "metadata": {"name": "v", **NOISE}, "spec": {"http": [{"unknown": {"x": [1]}}]}}
    before = copy.deepcopy(raw)

    projected = project_whole(raw)

    assert raw == before
    assert projected["spec"] == raw["spec"]
    assert "managedFields" not in projected["metadata"]
    assert projected["metadata"]["annotations"] == NOISE["annotations"]


def test_equal_strings_of_two_objects_are_one_string() -> None:
    first, second = (project_deployment(copy.deepcopy(raw_deployment(namespace="".join(("sh", "op"))))) for _ in "ab")

    assert first["metadata"]["namespace"] is second["metadata"]["namespace"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=json_values, status=json_values)
def test_no_spec_or_status_whatever_its_shape_keeps_the_metadata_from_being_read(spec: Any, status: Any) -> None:
    raw = {"metadata": {"name": "x", "namespace": "shop"}, "spec": spec, "status": status}
    for kind, project in PROJECTIONS.items():
        if kind is POD and isinstance(status, dict) and "conditions" in status:
            continue

        assert project(raw)["metadata"] == raw["metadata"]


def test_a_rollout_undo_makes_the_old_replicaset_the_newest_again() -> None:
    deployment = project_deployment(raw_deployment(annotations={"deployment.kubernetes.io/revision": "11"}))
    sets = [
        replicaset("old", "11", "aaa"),
        replicaset("new", "9", "bbb"),
        replicaset("strange", "99", "ccc", owner="z"),
    ]

    assert len(replicasets_of(deployment, sets)) == 2
    assert newest_replicaset(deployment, sets) is sets[0]
    assert current_revision(deployment, sets) == "aaa"


def test_a_revision_is_unknown_until_the_deployments_controller_has_seen_the_new_template() -> None:
    sets = [replicaset("new", "2", "bbb")]
    raw = raw_deployment(generation=5)

    assert current_revision(project_deployment(raw), sets) is None
    raw["status"]["observedGeneration"] = 5
    assert current_revision(project_deployment(raw), sets) == "bbb"
    assert current_revision(project_deployment(raw), []) is None


def test_a_revision_is_unknown_while_its_replicaset_has_not_arrived_on_the_other_watch() -> None:
    deployment = project_deployment(raw_deployment(annotations={"deployment.kubernetes.io/revision": "3"}))

    assert current_revision(deployment, [replicaset("old", "2", "aaa")]) is None
    assert current_revision(deployment, [replicaset("old", "2", "aaa"), replicaset("new", "3", "bbb")]) == "bbb"


def test_pods_are_ready_together_since_the_last_one_needed() -> None:
    pods = [
        pod("2026-01-01T00:00:30Z"),
        pod("2026-01-01T00:00:10Z"),
        pod(None),
        pod("2026-01-01T00:00:00Z", deleting=True),
    ]

    assert ready_since(pods, 2) == datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)
    assert ready_since(pods, 1) == datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    assert ready_since(pods, 3) is None
    assert ready_since([], 0) is None
    assert [is_ready(one) for one in pods] == [True, True, False, False]


def test_pods_belong_to_the_replicaset_that_controls_them() -> None:
    mine, other = pod(None, owner="r1"), pod(None, owner="r2")

    assert pods_of(replicaset("r1", "1", "aaa"), [mine, other]) == [mine]
