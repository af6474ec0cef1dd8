"""The CRD is what the models say, in the shape that an API server accepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from canary.model.crd import custom_resource_definition, render
from canary.shipped import shipped


@pytest.fixture
def version() -> dict[str, Any]:
    (only,) = custom_resource_definition()["spec"]["versions"]
    return dict(only)


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def test_the_file_that_is_applied_is_the_one_that_the_models_make() -> None:
    assert (shipped("deploy") / "crd.yaml").read_text() == render(), "run `make crd`"


def test_the_file_is_yaml_of_the_same_document() -> None:
    assert yaml.safe_load(render()) == custom_resource_definition()


def test_kubectl_finds_it_by_its_short_name_and_categories() -> None:
    names = custom_resource_definition()["spec"]["names"]

    assert names["shortNames"] == ["crol"]
    assert names["categories"] == ["all", "canary"]


def test_status_is_a_subresource_so_that_only_its_writer_writes_it(version: dict[str, Any]) -> None:
    assert version["subresources"] == {"status": {}}


def test_the_printed_columns_are_service_phase_step_weight_verdict_age(version: dict[str, Any]) -> None:
    columns = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]

    assert columns == ["Service", "Phase", "Step", "Weight", "Verdict", "Age"]


def test_every_printed_column_points_at_a_field_of_the_schema(version: dict[str, Any]) -> None:
    known = {path for path, _ in nodes(version["schema"]["openAPIV3Schema"])}

    for column in version["additionalPrinterColumns"]:
        assert column["jsonPath"] in known | {".metadata.creationTimestamp"}


def test_the_schema_is_structural(version: dict[str, Any]) -> None:
    for path, node in nodes(version["schema"]["openAPIV3Schema"]):
        assert "type" in node, path
        assert not {"$ref", "$defs", "anyOf", "oneOf", "default", "additionalProperties"} & node.keys(), path


def test_every_text_and_list_is_bounded(version: dict[str, Any]) -> None:
    """A tenant fills what is not (security.md 11)."""
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    for part in ("spec", "status"):
        for path, node in nodes(schema[part], part):
            if node["type"] == "string":
                assert {"maxLength", "enum"} & node.keys() or node["pattern"] == "^(True|False|Unknown)$", path
            if node["type"] == "array":
                assert "maxItems" in node, path


def test_every_text_of_a_stranger_has_a_pattern_without_control_characters(version: dict[str, Any]) -> None:
    for path, node in nodes(version["schema"]["openAPIV3Schema"]["properties"]["spec"]):
        if node["type"] == "string" and "enum" not in node:
            assert "pattern" in node, path


def test_what_was_asked_cannot_be_changed_not_even_by_removing_it_first(version: dict[str, Any]) -> None:
    rules = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"]
    immutable = {rule["fieldPath"] for rule in rules if "is immutable" in rule["message"]}

    assert immutable == {".target", ".policyName", ".service", ".virtualService", ".route", ".trigger"}
    assert all("has(self." in rule["rule"] and "has(oldSelf." in rule["rule"] for rule in rules)


def test_an_abort_cannot_be_taken_back(version: dict[str, Any]) -> None:
    rules = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"]

    (rule,) = [rule for rule in rules if rule["fieldPath"] == ".abort"]

    assert rule["rule"] == "!has(oldSelf.abort) || (has(self.abort) && self.abort == oldSelf.abort)"
