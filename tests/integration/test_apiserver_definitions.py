"""The embedded API server and custom resources: definitions, validation, pruning, subresources, several versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.shop import until

Body = dict[str, Any]

GROUP = "example.com"
SCHEMA: Body = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["service"],
            "properties": {
                "service": {"type": "string", "maxLength": 10, "pattern": "^[a-z]+$"},
                "replicas": {"type": "integer", "minimum": 0, "default": 1},
                "size": {"type": "integer", "minimum": 0},
                "mode": {"type": "string", "enum": ["fast", "safe"], "default": "safe"},
                "steps": {
                    "type": "array",
                    "maxItems": 3,
                    "items": {"type": "object", "properties": {"weight": {"type": "integer", "maximum": 100}}},
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "phase": {"type": "string"},
                "conditions": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                    "items": {
                        "type": "object",
                        "required": ["type", "status"],
                        "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
                    },
                },
            },
        },
    },
}


def definition(group: str = GROUP) -> Body:
    columns = [
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": SCHEMA},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
        "additionalPrinterColumns": columns,
    }
    names = {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"], "categories": ["all"]}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": spec,
    }


class Widgets:
    """Custom objects of the test's definition."""

    def __init__(self, api: client.ApiClient, namespace: str, group: str = GROUP) -> None:
        self.custom, self.place = client.CustomObjectsApi(api), (group, "v1", namespace, "widgets")

    def create(self, spec: Body, name: str = "a", **query: Any) -> Body:
        body = {"apiVersion": f"{self.place[0]}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}
        created: Body = self.custom.create_namespaced_custom_object(*self.place, body, **query)
        return created

    def patch(self, body: Any, content_type: str = "application/merge-patch+json", **query: Any) -> Body:
        patched: Body = self.custom.patch_namespaced_custom_object(
            *self.place, "a", body, _content_type=content_type, **query
        )
        return patched

    def patch_status(self, body: Any) -> Body:
        patched: Body = self.custom.patch_namespaced_custom_object_status(
            *self.place, "a", body, _content_type="application/merge-patch+json"
        )
        return patched


@pytest.fixture(scope="module")
def definitions(apiserver: Any) -> Iterator[client.ApiextensionsV1Api]:
    """The definition of widgets, once for all tests: a real server delays what is created of a new one for 2 s."""
    with config.new_client_from_config(str(apiserver.kubeconfig)) as api:
        extensions = client.ApiextensionsV1Api(api)
        extensions.create_custom_resource_definition(definition())
        until(lambda: is_served(extensions, f"widgets.{GROUP}"))
        yield extensions
        extensions.delete_custom_resource_definition(f"widgets.{GROUP}")


def is_served(extensions: client.ApiextensionsV1Api, name: str) -> bool:
    conditions = extensions.read_custom_resource_definition(name).status.conditions or []
    return any(condition.type == "Established" and condition.status == "True" for condition in conditions)


@pytest.fixture
def widgets(definitions: client.ApiextensionsV1Api, api: client.ApiClient, namespace: str) -> Widgets:
    return Widgets(api, namespace)


def causes(error: ApiException) -> dict[str, str]:
    """Field to reason."""
    return {cause["field"]: cause["reason"] for cause in json.loads(error.body)["details"]["causes"]}


def test_a_definition_serves_its_kind_at_once(widgets: Widgets, definitions: client.ApiextensionsV1Api) -> None:
    created = widgets.create({"service": "web"})

    crd = definitions.read_custom_resource_definition(f"widgets.{GROUP}")
    assert {condition.type: condition.status for condition in crd.status.conditions} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert crd.spec.names.singular == "widget"
    assert created["metadata"]["generation"] == 1


def test_defaults_are_filled_in(widgets: Widgets) -> None:
    assert widgets.create({"service": "web"})["spec"] == {"service": "web", "replicas": 1, "mode": "safe"}


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({}, "spec.service", "FieldValueRequired"),
        ({"service": 5}, "spec.service", "FieldValueTypeInvalid"),
        ({"service": "UPPER"}, "spec.service", "FieldValueInvalid"),
        ({"service": "muchtoolong"}, "spec.service", "FieldValueTooLong"),
        ({"service": "web", "size": -1}, "spec.size", "FieldValueInvalid"),
        ({"service": "web", "size": "1"}, "spec.size", "FieldValueTypeInvalid"),
        ({"service": "web", "size": True}, "spec.size", "FieldValueTypeInvalid"),
        ({"service": "web", "mode": "wild"}, "spec.mode", "FieldValueNotSupported"),
        ({"service": "web", "steps": [{"weight": 1}, {"weight": 101}]}, "spec.steps[1].weight", "FieldValueInvalid"),
        ({"service": "web", "steps": [{}] * 4}, "spec.steps", "FieldValueTooMany"),
    ],
)
def test_what_the_schema_forbids_is_a_422_with_its_cause(widgets: Widgets, spec: Body, field: str, reason: str) -> None:
    with pytest.raises(ApiException) as refused:
        widgets.create(spec)

    assert refused.value.status == 422
    assert causes(refused.value) == {field: reason}


def test_all_causes_are_told_at_once_in_upstreams_words(widgets: Widgets) -> None:
    with pytest.raises(ApiException) as refused:
        widgets.create({"replicas": -1, "mode": "wild"})

    message = json.loads(refused.value.body)["message"]
    assert message.startswith('Widget.example.com "a" is invalid: [')
    assert "spec.service: Required value" in message
    assert "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0" in message
    assert 'spec.mode: Unsupported value: "wild": supported values: "fast", "safe"' in message


def test_unknown_fields_are_pruned_but_where_the_schema_keeps_them(widgets: Widgets) -> None:
    created = widgets.create({"service": "web", "typo": 1, "steps": [{"wieght": 1}], "free": {"any": {"thing": 1}}})

    assert "typo" not in created["spec"]
    assert created["spec"]["steps"] == [{}]
    assert created["spec"]["free"] == {"any": {"thing": 1}}


def test_strict_validation_refuses_unknown_fields_and_names_them(widgets: Widgets) -> None:
    with pytest.raises(ApiException) as refused:
        widgets.create({"service": "web", "typo": 1}, field_validation="Strict")

    assert refused.value.status == 400
    assert 'strict decoding error: unknown field "spec.typo"' in json.loads(refused.value.body)["message"]


def test_status_is_written_through_its_subresource_only(widgets: Widgets) -> None:
    widgets.create({"service": "web"})

    main = widgets.patch({"status": {"phase": "Paused"}})
    status = widgets.patch_status({"spec": {"service": "db"}, "status": {"phase": "Progressing"}})

    assert "status" not in main
    assert status["status"] == {"phase": "Progressing"}
    assert status["spec"]["service"] == "web"
    assert status["metadata"]["generation"] == 1


def test_a_custom_resource_scales(widgets: Widgets) -> None:
    widgets.create({"service": "web"})
    wish, kind = {"spec": {"replicas": 4}}, "application/merge-patch+json"

    scale = widgets.custom.patch_namespaced_custom_object_scale(*widgets.place, "a", wish, _content_type=kind)

    assert scale["kind"] == "Scale"
    assert widgets.custom.get_namespaced_custom_object(*widgets.place, "a")["spec"]["replicas"] == 4


def test_custom_resources_refuse_strategic_merge_patches(widgets: Widgets) -> None:
    widgets.create({"service": "web"})

    with pytest.raises(ApiException) as refused:
        widgets.patch({"spec": {}}, "application/strategic-merge-patch+json")

    assert refused.value.status == 415


def test_conditions_of_several_writers_merge_by_type(widgets: Widgets) -> None:
    widgets.create({"service": "web"})

    for manager, kind in (("a", "Ready"), ("b", "Stalled")):
        condition = {"type": kind, "status": "True"}
        after = widgets.custom.patch_namespaced_custom_object_status(
            *widgets.place,
            "a",
            {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "status": {"conditions": [condition]}},
            _content_type="application/apply-patch+yaml",
            field_manager=manager,
        )

    assert [condition["type"] for condition in after["status"]["conditions"]] == ["Ready", "Stalled"]


def test_a_replace_of_a_custom_resource_must_say_which_version_it_saw(widgets: Widgets) -> None:
    created = widgets.create({"service": "web"})
    del created["metadata"]["resourceVersion"]

    with pytest.raises(ApiException, match="must be specified for an update") as refused:
        widgets.custom.replace_namespaced_custom_object(*widgets.place, "a", created)

    assert refused.value.status == 422


def test_a_removed_definition_takes_its_objects_along(api: client.ApiClient, namespace: str) -> None:
    group, name = "removed.example.com", "widgets.removed.example.com"
    extensions, widgets = client.ApiextensionsV1Api(api), Widgets(api, namespace, group)
    extensions.create_custom_resource_definition(definition(group))
    until(lambda: is_served(extensions, name))
    widgets.create({"service": "web"})

    extensions.delete_custom_resource_definition(name)

    until(lambda: code(lambda: extensions.read_custom_resource_definition(name)) == 404)
    until(lambda: code(lambda: widgets.custom.list_namespaced_custom_object(*widgets.place)) == 404)
    extensions.create_custom_resource_definition(definition(group))
    until(lambda: code(lambda: widgets.custom.list_namespaced_custom_object(*widgets.place)) == 200)
    assert widgets.custom.list_namespaced_custom_object(*widgets.place)["items"] == []
    extensions.delete_custom_resource_definition(name)


def code(request: Callable[[], Any]) -> int:
    """The HTTP status that a request is answered with."""
    try:
        request()
    except ApiException as error:
        return int(error.status)
    return 200


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("metadata", "name"), "wrong.example.com", "metadata.name"),
        (("spec", "scope"), "Galaxy", "spec.scope"),
        (("spec", "versions"), [{**definition()["spec"]["versions"][0], "storage": False}], "spec.versions"),
    ],
)
def test_a_broken_definition_is_refused(api: client.ApiClient, path: tuple[str, str], value: Any, field: str) -> None:
    broken = definition("broken.example.com")
    broken[path[0]][path[1]] = value

    with pytest.raises(ApiException) as refused:
        client.ApiextensionsV1Api(api).create_custom_resource_definition(broken)

    assert refused.value.status == 422
    assert field in causes(refused.value)


def test_istio_routes_are_one_object_in_all_their_versions(api: client.ApiClient, namespace: str) -> None:
    custom = client.CustomObjectsApi(api)
    spec = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web", "subset": "v1"}, "weight": 100}]}]}
    group, plural = "networking.istio.io", "virtualservices"
    route = {"apiVersion": f"{group}/v1beta1", "kind": "VirtualService", "metadata": {"name": "web"}, "spec": spec}

    custom.create_namespaced_custom_object(group, "v1beta1", namespace, plural, route)
    for version, hosts in (("v1beta1", ["web", "b"]), ("v1", ["web"])):
        applied = custom.patch_namespaced_custom_object(
            *(group, version, namespace, plural, "web"),
            {"apiVersion": f"{group}/{version}", "kind": "VirtualService", "spec": {"hosts": hosts}},
            _content_type="application/apply-patch+yaml",
            field_manager="mesh",
            force=True,
        )
    read = {
        version: custom.get_namespaced_custom_object(group, version, namespace, plural, "web")
        for version in ("v1", "v1beta1", "v1alpha3")
    }

    appliers = [entry["apiVersion"] for entry in applied["metadata"]["managedFields"] if entry["manager"] == "mesh"]
    assert appliers == [f"{group}/v1"]
    assert [obj["apiVersion"] for obj in read.values()] == [f"{group}/{version}" for version in read]
    assert [obj["spec"] for obj in read.values()] == [spec] * 3
    assert len({obj["metadata"]["uid"] for obj in read.values()}) == 1
