"""The CustomResourceDefinition, generated from the models: `python -m canary.model.crd > deploy/crd.yaml`.

Structural schema as the API server wants it (no $ref, no null types, no additionalProperties beside properties), plus
the CEL rules that pydantic cannot say: what is immutable, and that an abort is one-way.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from canary.model.rollout import API_VERSION, GROUP, KIND, RolloutSpec, RolloutStatus

PLURAL = "canaryrollouts"
_IMMUTABLE = ("target", "policyName", "service", "virtualService", "route", "trigger")
_DROPPED = ("title", "default", "additionalProperties", "propertyNames", "$defs", "discriminator")


def structural(schema: Any, definitions: dict[str, Any]) -> Any:
    """One JSON Schema node as a structural OpenAPI v3 node."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return structural({**target, **{key: value for key, value in schema.items() if key != "$ref"}}, definitions)
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if options:
        assert len(options) == 1, f"a union has no structural form: {schema}"
        return structural({**schema, **options[0], "anyOf": ()}, definitions)
    node = {key: value for key, value in schema.items() if key not in (*_DROPPED, "anyOf", "prefixItems")}
    if "prefixItems" in schema:
        node["items"] = structural(schema["prefixItems"][0], definitions)
    elif "items" in schema:
        node["items"] = structural(schema["items"], definitions)
    if "properties" in schema:
        node["properties"] = {name: structural(child, definitions) for name, child in schema["properties"].items()}
    elif schema.get("type") == "object":
        node["x-kubernetes-preserve-unknown-fields"] = True
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    return node


def _rules() -> list[dict[str, str]]:
    rules = [
        {
            # Rules on the field alone are beaten by removing it and setting it again, hence has() at the root.
            "rule": f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
            "message": f"spec.{name} is immutable: create a new CanaryRollout",
            "reason": "FieldValueForbidden",
            "fieldPath": f".{name}",
        }
        for name in _IMMUTABLE
    ]
    rules.append(
        {
            "rule": "!has(oldSelf.abort) || (has(self.abort) && self.abort == oldSelf.abort)",
            "message": "spec.abort cannot be taken back: start a new CanaryRollout (canary retry)",
            "reason": "FieldValueForbidden",
            "fieldPath": ".abort",
        }
    )
    return rules


def _schema_of(model: type[RolloutSpec] | type[RolloutStatus]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    result: dict[str, Any] = structural(schema, schema.get("$defs", {}))
    return result


def custom_resource_definition() -> dict[str, Any]:
    """The whole CRD as a document."""
    spec = _schema_of(RolloutSpec)
    spec["x-kubernetes-validations"] = _rules()

    def column(name: str, path: str, kind: str = "string", priority: int = 0) -> dict[str, Any]:
        extra = {"priority": priority} if priority else {}
        return {"name": name, "type": kind, "jsonPath": path, **extra}

    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["crol"],
                "categories": ["all", "canary"],
            },
            "versions": [
                {
                    "name": API_VERSION.rsplit("/", 1)[1],
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        column("Service", ".status.service"),
                        column("Phase", ".status.phase"),
                        column("Step", ".status.step.index", "integer"),
                        column("Weight", ".status.weight.configured", "integer"),
                        column("Verdict", ".status.verdict.outcome"),
                        column("Age", ".metadata.creationTimestamp", "date"),
                        column("Target", ".spec.target", priority=1),
                        column("Policy", ".spec.policyName", priority=1),
                        column("Message", ".status.message", priority=1),
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "One attempt to release a version, and the record of it.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": spec,
                                "status": _schema_of(RolloutStatus),
                            },
                        }
                    },
                }
            ],
        },
    }


def render() -> str:
    """The CRD as YAML, with a first line that says where it comes from."""
    body = yaml.safe_dump(custom_resource_definition(), sort_keys=False, width=110, allow_unicode=True)
    return f"# Generated from canary/model by `make docs`. Change the models, not this file.\n{body}"


if __name__ == "__main__":
    sys.stdout.write(render())
