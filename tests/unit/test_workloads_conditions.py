"""What kubectl rollout status and kubectl wait read."""

from datetime import UTC, datetime, timedelta

from canary.sandbox.workloads.conditions import condition, deadline_in, deployment_status

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def deployment(status=None, **spec):
    return {"metadata": {"name": "payment", "generation": 4}, "spec": {"replicas": 3, **spec}, "status": status or {}}


def replicaset(wanted, ready, name="payment-abc"):
    status = {"replicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
    return {"metadata": {"name": name}, "spec": {"replicas": wanted}, "status": status}


def said(status, type_):
    found = condition(status["conditions"], type_)
    return found["status"], found["reason"]


def test_a_rollout_from_creation_to_success():
    created = deployment_status(deployment(), replicaset(3, 0), [], NOW, is_new=True)
    assert said(created, "Progressing") == ("True", "NewReplicaSetCreated")
    assert said(created, "Available") == ("False", "MinimumReplicasUnavailable")

    moving = deployment_status(deployment(created), replicaset(3, 1), [], NOW + timedelta(seconds=1))
    assert said(moving, "Progressing") == ("True", "ReplicaSetUpdated")
    assert (moving["readyReplicas"], moving["unavailableReplicas"]) == (1, 2)

    done = deployment_status(deployment(moving), replicaset(3, 3), [], NOW + timedelta(seconds=2))
    assert said(done, "Progressing") == ("True", "NewReplicaSetAvailable")
    assert said(done, "Available") == ("True", "MinimumReplicasAvailable")
    assert done["observedGeneration"] == 4


def test_nothing_new_writes_nothing_new_however_late_it_is():
    done = deployment_status(deployment(), replicaset(3, 3), [], NOW)

    assert deployment_status(deployment(done), replicaset(3, 3), [], NOW + timedelta(hours=1)) == done


def test_a_rollout_that_stands_still_exceeds_its_deadline_once_and_progress_ends_that():
    created = deployment_status(deployment(), replicaset(3, 0), [], NOW, is_new=True)
    assert deadline_in(deployment(progressDeadlineSeconds=60), created, NOW) == 60

    stuck = deployment(created, progressDeadlineSeconds=60)
    in_time = deployment_status(stuck, replicaset(3, 0), [], NOW + timedelta(seconds=59))
    assert said(in_time, "Progressing") == ("True", "NewReplicaSetCreated")
    late = deployment_status(stuck, replicaset(3, 0), [], NOW + timedelta(seconds=61))
    assert said(late, "Progressing") == ("False", "ProgressDeadlineExceeded")
    assert deadline_in(stuck, late, NOW) is None
    assert deployment_status(deployment(late), replicaset(3, 0), [], NOW + timedelta(hours=1)) == late

    better = deployment_status(deployment(late), replicaset(3, 2), [], NOW + timedelta(seconds=200))
    assert said(better, "Progressing") == ("True", "ReplicaSetUpdated")


def test_a_pod_that_fails_after_success_makes_it_unavailable_but_not_unprogressed():
    done = deployment_status(deployment(), replicaset(3, 3), [], NOW)

    broken = deployment_status(deployment(done), replicaset(3, 0), [], NOW + timedelta(hours=1))

    assert said(broken, "Available") == ("False", "MinimumReplicasUnavailable")
    assert said(broken, "Progressing") == ("True", "NewReplicaSetAvailable")
    since = condition(broken["conditions"], "Available")["lastTransitionTime"]
    assert since == "2026-01-01T13:00:00Z"


def test_old_pods_count_as_replicas_and_not_as_updated():
    status = deployment_status(deployment(), replicaset(1, 1), [replicaset(3, 3, "payment-old")], NOW)

    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (4, 1, 4)


def test_paused_and_resumed_are_said():
    done = deployment_status(deployment(), replicaset(3, 3), [replicaset(0, 0, "payment-old")], NOW)

    paused = deployment_status(deployment(done, paused=True), None, [replicaset(3, 3)], NOW)
    assert said(paused, "Progressing") == ("Unknown", "DeploymentPaused")
    resumed = deployment_status(deployment(paused), replicaset(1, 0), [replicaset(3, 3)], NOW)
    assert said(resumed, "Progressing") == ("Unknown", "DeploymentResumed")
