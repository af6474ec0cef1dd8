"""The embedded API server through the official client: the life of objects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.shop import until

Body = dict[str, Any]


def config_map(name: str, **metadata: Any) -> Body:
    return {"metadata": {"name": name, **metadata}, "data": {"x": "1"}}


def deployment(name: str, image: str = "web:1") -> Body:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": image}]}}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}


def owned_by(owner: Any) -> list[Body]:
    return [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid}]


def about_pod(namespace: str, name: str) -> Body:
    return {"kind": "Pod", "namespace": namespace, "name": name}


def names(core: client.CoreV1Api, namespace: str) -> set[str]:
    return {item.metadata.name for item in core.list_namespaced_config_map(namespace).items}


def reason(error: pytest.ExceptionInfo[ApiException]) -> str:
    return str(json.loads(error.value.body)["reason"])


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture
def apps(api: client.ApiClient) -> client.AppsV1Api:
    return client.AppsV1Api(api)


def test_created_objects_carry_the_metadata_of_a_cluster(core: client.CoreV1Api, namespace: str) -> None:
    created, status, _ = core.create_namespaced_config_map_with_http_info(namespace, config_map("a"))

    assert status == 201
    assert created.metadata.uid
    assert created.metadata.creation_timestamp
    assert int(created.metadata.resource_version) > 0
    assert core.read_namespaced_config_map("a", namespace).data == {"x": "1"}


def test_a_second_create_is_refused_as_already_existing(core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("a"))

    with pytest.raises(ApiException, match=r'configmaps \\"a\\" already exists') as refused:
        core.create_namespaced_config_map(namespace, config_map("a"))

    assert refused.value.status == 409
    assert reason(refused) == "AlreadyExists"


def test_a_generated_name_is_new_each_time(core: client.CoreV1Api, namespace: str) -> None:
    body = {"metadata": {"generateName": "run-"}}

    names = {core.create_namespaced_config_map(namespace, body).metadata.name for _ in range(5)}

    assert len(names) == 5
    assert all(name.startswith("run-") and len(name) == 9 for name in names)


def test_a_create_must_not_claim_a_version(core: client.CoreV1Api, namespace: str) -> None:
    with pytest.raises(ApiException, match="resourceVersion should not be set") as refused:
        core.create_namespaced_config_map(namespace, config_map("a", resourceVersion="7"))

    assert refused.value.status == 500


@pytest.mark.parametrize("name", ["Upper", "with_underscore", "-dash", ""])
def test_a_bad_name_is_a_422_that_names_the_field(core: client.CoreV1Api, namespace: str, name: str) -> None:
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_config_map(namespace, config_map(name))

    assert refused.value.status == 422
    assert json.loads(refused.value.body)["details"]["causes"][0]["field"] == "metadata.name"


def test_without_its_namespace_nothing_is_created(core: client.CoreV1Api) -> None:
    with pytest.raises(ApiException, match=r'namespaces \\"nowhere\\" not found') as refused:
        core.create_namespaced_config_map("nowhere", config_map("a"))

    assert refused.value.status == 404


def test_a_missing_object_is_named_with_its_group(apps: client.AppsV1Api, namespace: str) -> None:
    with pytest.raises(ApiException) as missing:
        apps.read_namespaced_deployment("x", namespace)

    status = json.loads(missing.value.body)
    assert status["message"] == 'deployments.apps "x" not found'
    assert status["details"] == {"name": "x", "group": "apps", "kind": "deployments"}


def test_a_stale_replace_is_a_conflict_and_changes_nothing(core: client.CoreV1Api, namespace: str) -> None:
    first = core.create_namespaced_config_map(namespace, config_map("a"))
    core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})
    first.data = {"x": "stale"}

    with pytest.raises(ApiException, match="the object has been modified") as refused:
        core.replace_namespaced_config_map("a", namespace, first)

    assert refused.value.status == 409
    assert reason(refused) == "Conflict"
    assert core.read_namespaced_config_map("a", namespace).data == {"x": "2"}


def test_a_write_that_changes_nothing_makes_no_new_version(core: client.CoreV1Api, namespace: str) -> None:
    before = core.create_namespaced_config_map(namespace, config_map("a"))

    after = core.replace_namespaced_config_map("a", namespace, before)

    assert after.metadata.resource_version == before.metadata.resource_version


def test_generation_counts_changes_of_the_spec_only(apps: client.AppsV1Api, namespace: str) -> None:
    assert apps.create_namespaced_deployment(namespace, deployment("web")).metadata.generation == 1

    labelled = apps.patch_namespaced_deployment("web", namespace, {"metadata": {"labels": {"a": "b"}}})
    observed = apps.patch_namespaced_deployment_status("web", namespace, {"status": {"replicas": 1}})
    scaled = apps.patch_namespaced_deployment("web", namespace, {"spec": {"replicas": 3}})

    assert [labelled.metadata.generation, observed.metadata.generation, scaled.metadata.generation] == [1, 1, 2]


def test_main_and_status_writes_cannot_touch_each_others_part(apps: client.AppsV1Api, namespace: str) -> None:
    apps.create_namespaced_deployment(namespace, {**deployment("web"), "status": {"replicas": 9}})

    apps.patch_namespaced_deployment("web", namespace, {"spec": {"replicas": 2}, "status": {"replicas": 8}})
    both = {"spec": {"replicas": 7}, "status": {"replicas": 1}}
    after = apps.patch_namespaced_deployment_status("web", namespace, both)

    assert after.spec.replicas == 2
    assert after.status.replicas == 1


def test_a_deployment_gets_the_defaults_clients_read_back(apps: client.AppsV1Api, namespace: str) -> None:
    created = apps.create_namespaced_deployment(namespace, deployment("web"))

    assert created.spec.replicas == 1
    assert created.spec.strategy.rolling_update.max_surge == "25%"
    assert created.spec.progress_deadline_seconds == 600
    assert created.spec.template.spec.restart_policy == "Always"


def test_a_selector_that_does_not_match_its_template_is_invalid(apps: client.AppsV1Api, namespace: str) -> None:
    body = deployment("web")
    body["spec"]["selector"] = {"matchLabels": {"app": "other"}}

    with pytest.raises(ApiException, match="does not match template") as refused:
        apps.create_namespaced_deployment(namespace, body)

    assert refused.value.status == 422


def test_the_selector_of_a_deployment_is_immutable(apps: client.AppsV1Api, namespace: str) -> None:
    apps.create_namespaced_deployment(namespace, deployment("web"))
    change = {"spec": {"selector": {"matchLabels": {"app": None}}}}

    with pytest.raises(ApiException, match="field is immutable") as refused:
        apps.patch_namespaced_deployment("web", namespace, change)

    assert refused.value.status == 422


def test_delete_preconditions_protect_a_newer_object(core: client.CoreV1Api, namespace: str) -> None:
    created = core.create_namespaced_config_map(namespace, config_map("a"))
    preconditions = {"uid": "another", "resourceVersion": created.metadata.resource_version}

    with pytest.raises(ApiException, match="the UID in the precondition") as refused:
        core.delete_namespaced_config_map("a", namespace, body={"preconditions": preconditions})

    assert refused.value.status == 409
    right = {"preconditions": {**preconditions, "uid": created.metadata.uid}}
    assert core.delete_namespaced_config_map("a", namespace, body=right)["status"] == "Success"


def test_a_finalizer_holds_an_object_until_it_is_taken_off(core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("a", finalizers=["canary.delivery/roll-back"]))

    core.delete_namespaced_config_map("a", namespace)
    held = core.read_namespaced_config_map("a", namespace)
    core.patch_namespaced_config_map("a", namespace, {"metadata": {"finalizers": None}})

    assert held.metadata.deletion_timestamp
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("a", namespace)
    assert gone.value.status == 404


def test_dependents_go_with_their_last_owner(core: client.CoreV1Api, namespace: str) -> None:
    owners = [core.create_namespaced_config_map(namespace, config_map(name)) for name in ("a", "b")]
    both = [*owned_by(owners[0]), *owned_by(owners[1])]
    core.create_namespaced_config_map(namespace, config_map("shared", ownerReferences=both))
    core.create_namespaced_config_map(namespace, config_map("only-a", ownerReferences=owned_by(owners[0])))

    core.delete_namespaced_config_map("a", namespace)
    until(lambda: "only-a" not in names(core, namespace))
    left = names(core, namespace)
    core.delete_namespaced_config_map("b", namespace)

    assert left == {"b", "shared"}
    until(lambda: names(core, namespace) == set())


def test_orphaned_dependents_stay_without_their_owner(core: client.CoreV1Api, namespace: str) -> None:
    owner = core.create_namespaced_config_map(namespace, config_map("a"))
    core.create_namespaced_config_map(namespace, config_map("child", ownerReferences=owned_by(owner)))

    core.delete_namespaced_config_map("a", namespace, propagation_policy="Orphan")

    until(lambda: core.read_namespaced_config_map("child", namespace).metadata.owner_references is None)
    assert "child" in names(core, namespace)


def test_in_the_foreground_the_owner_waits_for_its_dependents(core: client.CoreV1Api, namespace: str) -> None:
    owner = core.create_namespaced_config_map(namespace, config_map("a"))
    child = config_map("child", ownerReferences=owned_by(owner), finalizers=["example.com/hold"])
    core.create_namespaced_config_map(namespace, child)

    core.delete_namespaced_config_map("a", namespace, propagation_policy="Foreground")
    waiting = core.read_namespaced_config_map("a", namespace).metadata.finalizers
    core.patch_namespaced_config_map("child", namespace, {"metadata": {"finalizers": None}})

    assert waiting == ["foregroundDeletion"]
    until(lambda: names(core, namespace) == set())


def test_a_dependent_of_nobody_is_collected(core: client.CoreV1Api, namespace: str) -> None:
    gone = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"}]

    core.create_namespaced_config_map(namespace, config_map("late", ownerReferences=gone))

    until(lambda: names(core, namespace) == set())


def test_deleting_a_collection_takes_what_the_selector_matches(core: client.CoreV1Api, namespace: str) -> None:
    for name, app in (("a", "x"), ("b", "x"), ("c", "y")):
        core.create_namespaced_config_map(namespace, config_map(name, labels={"app": app}))

    core.delete_collection_namespaced_config_map(namespace, label_selector="app=x")

    assert [item.metadata.name for item in core.list_namespaced_config_map(namespace).items] == ["c"]


def test_a_namespace_goes_with_its_contents_and_waits_for_finalizers(core: client.CoreV1Api) -> None:
    core.create_namespace({"metadata": {"name": "doomed"}})
    core.create_namespaced_config_map("doomed", config_map("plain"))
    core.create_namespaced_config_map("doomed", config_map("held", finalizers=["example.com/hold"]))

    core.delete_namespace("doomed")
    assert core.read_namespace("doomed").status.phase == "Terminating"
    assert [item.metadata.name for item in core.list_namespaced_config_map("doomed").items] == ["held"]
    with pytest.raises(ApiException, match="is being terminated") as refused:
        core.create_namespaced_config_map("doomed", config_map("late"))
    core.patch_namespaced_config_map("held", "doomed", {"metadata": {"finalizers": None}})

    assert refused.value.status == 403
    with pytest.raises(ApiException) as gone:
        core.read_namespace("doomed")
    assert gone.value.status == 404


def test_the_default_namespaces_exist_and_stay(core: client.CoreV1Api) -> None:
    with pytest.raises(ApiException, match="may not be deleted") as refused:
        core.delete_namespace("default")

    assert refused.value.status == 403
    assert {"default", "kube-system"} <= {item.metadata.name for item in core.list_namespace().items}


def test_an_object_over_etcds_limit_is_answered_in_etcds_words(apps: client.AppsV1Api, namespace: str) -> None:
    large = deployment("a")
    large["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "X", "value": "y" * 1_600_000}]
    with pytest.raises(ApiException, match="etcdserver: request is too large") as refused:
        apps.create_namespaced_deployment(namespace, large)

    assert refused.value.status == 500


def test_a_body_over_the_limit_is_not_read(core: client.CoreV1Api, namespace: str) -> None:
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}, "data": {"x": "y" * 3_200_000}})

    assert refused.value.status == 413


def test_a_dry_run_answers_and_stores_nothing(core: client.CoreV1Api, namespace: str) -> None:
    answer = core.create_namespaced_config_map(namespace, config_map("a"), dry_run="All")

    assert answer.metadata.uid
    assert core.list_namespaced_config_map(namespace).items == []


def test_pages_of_a_list_add_up_to_the_list(core: client.CoreV1Api, namespace: str) -> None:
    names = [f"item-{number}" for number in range(7)]
    for name in names:
        core.create_namespaced_config_map(namespace, config_map(name))

    seen, token, remaining = [], None, []
    while token != "":
        page = core.list_namespaced_config_map(namespace, limit=3, _continue=token)
        seen += [item.metadata.name for item in page.items]
        remaining.append(page.metadata.remaining_item_count)
        token = page.metadata._continue or ""

    assert seen == names
    assert remaining == [4, 1, None]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=web", ["a", "b"]),
        ("app==web,track!=canary", ["a"]),
        ("track in (canary, stable)", ["a", "b"]),
        ("track notin (canary)", ["a", "c"]),
        ("track", ["a", "b"]),
        ("!track", ["c"]),
        ("", ["a", "b", "c"]),
    ],
)
def test_labels_select(core: client.CoreV1Api, namespace: str, selector: str, found: list[str]) -> None:
    for name, labels in (("a", {"app": "web", "track": "stable"}), ("b", {"app": "web", "track": "canary"}), ("c", {})):
        core.create_namespaced_config_map(namespace, config_map(name, labels=labels))

    listed = core.list_namespaced_config_map(namespace, label_selector=selector)

    assert [item.metadata.name for item in listed.items] == found


def test_fields_select_and_unknown_fields_are_refused(core: client.CoreV1Api, namespace: str) -> None:
    for name, about in (("one", "web"), ("two", "db")):
        event = {"metadata": {"name": name}, "involvedObject": about_pod(namespace, about), "reason": "Tested"}
        core.create_namespaced_event(namespace, event)

    listed = core.list_namespaced_event(namespace, field_selector="involvedObject.name=db,reason!=Other")

    assert [item.metadata.name for item in listed.items] == ["two"]
    with pytest.raises(ApiException, match=r"field label not supported: spec\.color") as refused:
        core.list_namespaced_event(namespace, field_selector="spec.color=red")
    assert refused.value.status == 400


@pytest.mark.parametrize("selector", ["a b", "a in b", "=x", "a=b,", "a in (b", "a=b c"])
def test_an_unreadable_selector_never_selects_everything(core: client.CoreV1Api, namespace: str, selector: str) -> None:
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_config_map(namespace, label_selector=selector)

    assert refused.value.status == 400


def test_scale_reads_and_writes_the_replicas(apps: client.AppsV1Api, namespace: str) -> None:
    apps.create_namespaced_deployment(namespace, deployment("web"))

    scale = apps.read_namespaced_deployment_scale("web", namespace)
    scale.spec.replicas = 4
    apps.replace_namespaced_deployment_scale("web", namespace, scale)

    assert scale.status.selector == "app=web"
    assert apps.read_namespaced_deployment("web", namespace).spec.replicas == 4
    with pytest.raises(ApiException) as stale:
        apps.replace_namespaced_deployment_scale("web", namespace, scale)
    assert stale.value.status == 409


def test_a_lease_changes_hands_by_compare_and_swap(api: client.ApiClient, namespace: str) -> None:
    leases = client.CoordinationV1Api(api)
    lease = leases.create_namespaced_lease(namespace, {"metadata": {"name": "slot-1"}, "spec": {"holderIdentity": "a"}})
    version = lease.metadata.resource_version
    wish = {"metadata": {"name": "slot-1", "resourceVersion": version}, "spec": {"holderIdentity": "b"}}

    taken = leases.replace_namespaced_lease("slot-1", namespace, wish)

    assert taken.spec.holder_identity == "b"
    with pytest.raises(ApiException) as late:
        leases.replace_namespaced_lease("slot-1", namespace, wish)
    assert late.value.status == 409


def test_the_one_user_may_do_everything(api: client.ApiClient) -> None:
    spec = {"resourceAttributes": {"verb": "patch", "resource": "deployments", "group": "apps"}}

    review = client.AuthorizationV1Api(api).create_self_subject_access_review({"spec": spec})

    assert review.status.allowed
