"""The embedded API server's four patch types, and who owns which field afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

Body = dict[str, Any]
Paths = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


class Deployments:
    """Raw patches of Deployments: content type and field manager as a test wants them."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api = api
        self._collection = f"/apis/apps/v1/namespaces/{namespace}/deployments"

    def call(self, method: str, name: str, body: Any, content_type: str, **query: Any) -> Body:
        place, _, subresource = name.partition("/")
        path = "/".join(filter(None, (self._collection, place, subresource)))
        answer = self._api.call_api(
            *self._api.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Content-Type": content_type, "Accept": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
        )
        answer.read()
        if answer.status >= 300:
            raise ApiException(http_resp=answer, body=answer.data.decode())
        parsed: Body = json.loads(answer.data)
        return parsed

    def create(self, body: Body, manager: str = "creator") -> Body:
        return self.call("POST", "", body, "application/json", fieldManager=manager)

    def patch(self, name: str, body: Any, content_type: str, manager: str = "patcher", **query: Any) -> Body:
        return self.call("PATCH", name, body, content_type, fieldManager=manager, **query)

    def apply(self, name: str, body: Body, manager: str, **query: Any) -> Body:
        return self.patch(name, {"apiVersion": "apps/v1", "kind": "Deployment", **body}, APPLY, manager, **query)


@pytest.fixture
def deployments(api: client.ApiClient, namespace: str) -> Deployments:
    return Deployments(api, namespace)


def web(**spec: Any) -> Body:
    container = {
        "name": "web",
        "image": "web:1",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "1"}],
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    return {
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def containers(obj: Body) -> list[Body]:
    found: list[Body] = obj["spec"]["template"]["spec"]["containers"]
    return found


def owners(obj: Body, *path: str) -> set[tuple[str, str]]:
    """(manager, operation) of the entries that hold a field."""
    found = set()
    for entry in obj["metadata"]["managedFields"]:
        node: Any = entry["fieldsV1"]
        for element in path:
            node = node.get(element) if node is not None else None
        if node is not None:
            found.add((entry["manager"], entry["operation"]))
    return found


def patch_of_template(container: Body) -> Body:
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


def test_a_json_patch_pinned_to_the_version_it_saw_writes(deployments: Deployments) -> None:
    seen = deployments.create(web())["metadata"]["resourceVersion"]

    after = deployments.patch(
        "web",
        [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": seen},
            {"op": "replace", "path": "/spec/replicas", "value": 3},
        ],
        JSON_PATCH,
    )

    assert after["spec"]["replicas"] == 3


def test_a_json_patch_pinned_to_a_stale_version_is_a_conflict(deployments: Deployments) -> None:
    seen = deployments.create(web())["metadata"]["resourceVersion"]
    pinned = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": seen},
        {"op": "add", "path": "/spec/replicas", "value": 3},
    ]
    deployments.patch("web", pinned, JSON_PATCH)

    with pytest.raises(ApiException) as refused:
        deployments.patch("web", pinned, JSON_PATCH)

    assert refused.value.status == 409


def test_a_merge_patch_carrying_a_stale_version_is_a_conflict(deployments: Deployments) -> None:
    deployments.create(web())
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 3}}

    with pytest.raises(ApiException) as refused:
        deployments.patch("web", stale, "application/merge-patch+json")

    assert refused.value.status == 409


def test_a_failed_json_patch_test_is_a_422_without_causes(deployments: Deployments) -> None:
    deployments.create(web())

    with pytest.raises(ApiException) as refused:
        deployments.patch("web", [{"op": "test", "path": "/spec/replicas", "value": 9}], JSON_PATCH)

    status = json.loads(refused.value.body)
    assert (status["code"], status["reason"], status["details"]) == (422, "Invalid", {})


def test_a_json_patch_that_makes_the_object_invalid_is_a_422_with_causes(deployments: Deployments) -> None:
    deployments.create(web())

    with pytest.raises(ApiException) as refused:
        deployments.patch("web", [{"op": "replace", "path": "/spec/replicas", "value": -1}], JSON_PATCH)

    status = json.loads(refused.value.body)
    assert (status["code"], status["details"]["causes"][0]["field"]) == (422, "spec.replicas")


@pytest.mark.parametrize(
    ("body", "status"), [([1], 400), ([{"op": "fly", "path": "/spec"}], 422), ([{"path": "/spec"}], 422)]
)
def test_a_body_that_is_no_json_patch_is_refused(deployments: Deployments, body: Any, status: int) -> None:
    deployments.create(web())

    with pytest.raises(ApiException) as refused:
        deployments.patch("web", body, JSON_PATCH)

    assert refused.value.status == status


def test_a_merge_patch_replaces_lists_and_removes_nulls(deployments: Deployments) -> None:
    deployments.create(web())

    after = deployments.patch(
        "web",
        {"metadata": {"labels": {"app": None}}, **patch_of_template({"name": "web", "image": "web:2"})},
        "application/merge-patch+json",
    )

    assert "labels" not in after["metadata"] or after["metadata"]["labels"] == {}
    assert [(item["image"], item.get("env")) for item in containers(after)] == [("web:2", None)]


def test_a_strategic_merge_patch_merges_lists_by_their_keys(deployments: Deployments) -> None:
    deployments.create(web())
    change = {"name": "web", "image": "web:2", "env": [{"name": "B", "value": "2"}]}

    after = deployments.patch("web", patch_of_template(change), "application/strategic-merge-patch+json")

    assert len(containers(after)) == 1
    assert containers(after)[0]["image"] == "web:2"
    assert [item["name"] for item in containers(after)[0]["env"]] == ["B", "A"]  # as Kubernetes orders them
    assert containers(after)[0]["ports"][0]["containerPort"] == 80


def test_strategic_merge_directives_delete_and_replace(deployments: Deployments) -> None:
    deployments.create(web())
    change = {
        "name": "web",
        "env": [{"name": "A", "$patch": "delete"}, {"name": "B", "value": "2"}],
        "ports": [{"containerPort": 81}, {"$patch": "replace"}],
        "$setElementOrder/env": [{"name": "B"}],
    }

    after = deployments.patch("web", patch_of_template(change), "application/strategic-merge-patch+json")

    assert [item["name"] for item in containers(after)[0]["env"]] == ["B"]
    assert [item["containerPort"] for item in containers(after)[0]["ports"]] == [81]


def test_an_unknown_patch_type_is_a_415(deployments: Deployments) -> None:
    deployments.create(web())

    with pytest.raises(ApiException) as refused:
        deployments.patch("web", {}, "application/json")

    assert refused.value.status == 415


def test_garbage_is_a_400(deployments: Deployments) -> None:
    deployments.create(web())

    with pytest.raises(ApiException) as refused:
        deployments.patch("web", "{not json", "application/merge-patch+json")

    assert refused.value.status == 400


def test_every_writer_is_recorded_with_what_it_changed(deployments: Deployments) -> None:
    deployments.create(web(), manager="installer")

    scaled = deployments.patch("web", {"spec": {"replicas": 5}}, "application/merge-patch+json", "scaler")
    after = deployments.patch("web/status", {"status": {"replicas": 5}}, "application/merge-patch+json", "kubelet")

    assert owners(scaled, "f:spec", "f:replicas") == {("scaler", "Update")}
    assert owners(after, "f:spec", "f:selector") == {("installer", "Update")}
    entry = next(entry for entry in after["metadata"]["managedFields"] if entry["manager"] == "kubelet")
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:replicas": {}}})
    assert entry["time"].endswith("Z")


def test_a_writer_without_a_name_is_known_by_its_user_agent(api: client.ApiClient, namespace: str) -> None:
    created = client.CoreV1Api(api).create_namespaced_config_map(
        namespace, {"metadata": {"name": "a"}, "data": {"x": "1"}}
    )

    assert [entry.manager for entry in created.metadata.managed_fields] == ["OpenAPI-Generator"]


def test_apply_creates_then_says_unchanged(deployments: Deployments) -> None:
    first = deployments.apply("web", web(replicas=2), "gitops")
    second = deployments.apply("web", web(replicas=2), "gitops")

    assert first == second
    assert owners(first, "f:spec", "f:replicas") == {("gitops", "Apply")}
    assert owners(first, "f:spec", "f:strategy") == set()


def test_apply_removes_what_its_manager_leaves_out(deployments: Deployments) -> None:
    body = web()
    body["metadata"]["annotations"] = {"mine": "1"}
    deployments.apply("web", body, "gitops")
    deployments.patch("web", {"metadata": {"annotations": {"theirs": "1"}}}, "application/merge-patch+json")

    after = deployments.apply("web", web(), "gitops")

    assert after["metadata"]["annotations"] == {"theirs": "1"}


def test_apply_keeps_what_another_manager_also_applied(deployments: Deployments) -> None:
    deployments.apply("web", web(replicas=2), "gitops")
    deployments.apply("web", {"metadata": {"name": "web"}, "spec": {"replicas": 2}}, "autoscaler")

    after = deployments.apply("web", web(), "gitops")

    assert after["spec"]["replicas"] == 2
    assert owners(after, "f:spec", "f:replicas") == {("autoscaler", "Apply")}


def test_an_apply_against_another_manager_is_a_conflict_naming_it(deployments: Deployments) -> None:
    deployments.apply("web", web(replicas=2), "gitops")

    with pytest.raises(ApiException) as refused:
        deployments.apply("web", {"metadata": {"name": "web"}, "spec": {"replicas": 5}}, "autoscaler")

    status = json.loads(refused.value.body)
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "gitops": .spec.replicas'
    assert status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "gitops"', "field": ".spec.replicas"}
    ]


def test_several_conflicts_are_told_manager_by_manager(deployments: Deployments) -> None:
    deployments.apply("web", web(replicas=2, minReadySeconds=1), "gitops")
    wish = {"metadata": {"name": "web"}, "spec": {"replicas": 5, "minReadySeconds": 2}}

    with pytest.raises(ApiException) as refused:
        deployments.apply("web", wish, "autoscaler")

    message = json.loads(refused.value.body)["message"]
    fields = "- .spec.minReadySeconds\n- .spec.replicas"
    assert message == f'Apply failed with 2 conflicts: conflicts with "gitops":\n{fields}'


def test_a_date_in_applied_yaml_is_text(deployments: Deployments) -> None:
    body = web()
    body["metadata"]["annotations"] = {"since": "DATE"}
    text = yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", **body}).replace("DATE", "2026-01-01")

    applied = deployments.patch("web", text, APPLY)

    assert applied["metadata"]["annotations"] == {"since": "2026-01-01"}


def test_a_forced_apply_takes_the_field_over(deployments: Deployments) -> None:
    deployments.apply("web", web(replicas=2), "gitops")

    after = deployments.apply("web", {"metadata": {"name": "web"}, "spec": {"replicas": 5}}, "autoscaler", force="true")

    assert after["spec"]["replicas"] == 5
    assert owners(after, "f:spec", "f:replicas") == {("autoscaler", "Apply")}


def test_apply_merges_containers_of_several_managers(deployments: Deployments) -> None:
    deployments.apply("web", web(), "gitops")
    sidecar = patch_of_template({"name": "proxy", "image": "proxy:1"})

    both = deployments.apply("web", {"metadata": {"name": "web"}, **sidecar}, "mesh")
    without = deployments.apply("web", {"metadata": {"name": "web"}}, "mesh")

    assert [item["name"] for item in containers(both)] == ["web", "proxy"]
    assert [item["name"] for item in containers(without)] == ["web"]


def test_apply_without_a_manager_is_refused(deployments: Deployments) -> None:
    with pytest.raises(ApiException, match="fieldManager") as refused:
        deployments.apply("web", web(), "")

    assert refused.value.status == 422
