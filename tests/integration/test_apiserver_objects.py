"""The embedded API server through the official client: what happens to objects."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def test_created_objects_carry_the_metadata_of_a_cluster(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)

    created, status, _ = core.create_namespaced_config_map_with_http_info(namespace, config_map("a", x="1"))

    assert status == 201
    assert created.metadata.uid
    assert created.metadata.creation_timestamp
    assert int(created.metadata.resource_version) > 0
    assert core.read_namespaced_config_map("a", namespace).data == {"x": "1"}


def test_a_second_create_is_refused_as_already_existing(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_config_map(namespace, config_map("a"))

    with pytest.raises(ApiException, match=r'configmaps \\"a\\" already exists') as refused:
        core.create_namespaced_config_map(namespace, config_map("a"))

    assert refused.value.status == 409
