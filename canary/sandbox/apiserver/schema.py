"""Structural schemas of custom resources: defaults, pruning, validation with causes as upstream words them.

CEL rules (`x-kubernetes-validations`) are NOT evaluated: only the real API server can. Tests of such rules need it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

import orjson

from canary.sandbox.apiserver.answers import Cause, Json

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_KEEP = "x-kubernetes-preserve-unknown-fields"


def apply_defaults(schema: Json, value: Any) -> None:
    """Fill in `default`s below an object of our own, in place; a null that is not nullable counts as absent."""
    if isinstance(value, dict):
        extra = schema.get("additionalProperties")
        properties: Json = schema.get("properties") or {}
        for name, child in properties.items():
            if name in value and value[name] is None and not child.get("nullable") and "default" in child:
                del value[name]
            if name not in value and "default" in child:
                value[name] = orjson.loads(orjson.dumps(child["default"]))
        for name, item in value.items():
            child = properties.get(name, extra)
            if isinstance(child, dict):
                apply_defaults(child, item)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            apply_defaults(schema["items"], item)


def prune(schema: Json, value: Any, path: str = "") -> list[str]:
    """Drop fields the schema does not know from an object of our own, in place; returns their dotted names."""
    gone: list[str] = []
    if isinstance(value, dict):
        properties: Json = schema.get("properties") or {}
        if schema.get("x-kubernetes-embedded-resource") or not path:
            properties = {"apiVersion": {}, "kind": {}, "metadata": {_KEEP: True}} | properties
            properties["metadata"] = {_KEEP: True}
        extra = schema.get("additionalProperties")
        for name in list(value):
            where = f"{path}.{name}" if path else name
            if name in properties:
                gone += prune(properties[name], value[name], where)
            elif isinstance(extra, dict):
                gone += prune(extra, value[name], where)
            elif not (extra or schema.get(_KEEP)):
                del value[name]
                gone.append(where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            gone += prune(schema.get("items") or {_KEEP: True}, item, f"{path}[{index}]")
    return gone


def validate(schema: Json, value: Any, path: str = "") -> Iterator[Cause]:
    """Everything wrong with `value`, as causes; nothing when it is valid."""
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _wrong_type("integer,string", value, path)
        return
    kind = schema.get("type")
    if kind:
        whole_float = kind == "integer" and isinstance(value, float) and value.is_integer()
        is_bool = isinstance(value, bool) and kind != "boolean"
        if is_bool or not (isinstance(value, _TYPES[kind]) or whole_float):
            yield _wrong_type(kind, value, path)
            return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(_quoted(item) for item in schema["enum"])
        message = f"Unsupported value: {_quoted(value)}: supported values: {supported}"
        yield Cause("FieldValueNotSupported", message, path)
    if isinstance(value, str):
        yield from _validate_text(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _validate_number(schema, value, path)
    elif isinstance(value, list):
        yield from _validate_list(schema, value, path)
    elif isinstance(value, dict):
        yield from _validate_map(schema, value, path)
    yield from _validate_combined(schema, value, path)


def problems(schema: Any, path: str) -> Iterator[Cause]:
    """What is wrong with a schema itself, as far as reading it here would fail."""
    if not isinstance(schema, dict):
        yield Cause("FieldValueTypeInvalid", "Invalid value: must be an object", path)
        return
    if "type" in schema and schema["type"] not in _TYPES:
        supported = ", ".join(f'"{name}"' for name in _TYPES)
        message = f"Unsupported value: {_quoted(schema['type'])}: supported values: {supported}"
        yield Cause("FieldValueNotSupported", message, f"{path}.type")
    try:
        re.compile(schema.get("pattern", ""))
    except (re.error, TypeError) as error:
        yield Cause("FieldValueInvalid", f"Invalid value: not a regular expression: {error}", f"{path}.pattern")
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        yield Cause("FieldValueTypeInvalid", "Invalid value: must be an object", f"{path}.properties")
        return
    for name, child in properties.items():
        yield from problems(child, f"{path}.properties[{name}]")
    for name in ("items", "not", "additionalProperties"):
        if name in schema and not (name == "additionalProperties" and isinstance(schema[name], bool)):
            yield from problems(schema[name], f"{path}.{name}")
    for name in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(name, ())):
            yield from problems(part, f"{path}.{name}[{index}]")


def _quoted(value: Any) -> str:
    return orjson.dumps(value).decode()


def _wrong_type(wanted: str, value: Any, path: str) -> Cause:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    told = names.get(type(value), "null")
    message = f'Invalid value: "{told}": {path} in body must be of type {wanted}: "{told}"'
    return Cause("FieldValueTypeInvalid", message, path)


def _refused(value: Any, path: str, rule: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {_quoted(value)}: {path} in body {rule}", path)


def _validate_text(schema: Json, value: str, path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxLength", len(value)):
        message = f"Too long: may not be more than {schema['maxLength']} bytes"
        yield Cause("FieldValueTooLong", message, path)
    if len(value) < schema.get("minLength", 0):
        yield _refused(value, path, f"should be at least {schema['minLength']} chars long")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield _refused(value, path, f"should match '{schema['pattern']}'")
    if schema.get("format") == "date-time" and not _is_instant(value):
        yield _refused(value, path, f'must be of type date-time: "{value}"')


def _is_instant(value: str) -> bool:
    try:
        return "T" in value and datetime.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _validate_number(schema: Json, value: float, path: str) -> Iterator[Cause]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum"))):
        than = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield _refused(value, path, f"should be {than} {low}")
    if high is not None and (value > high or (value == high and schema.get("exclusiveMaximum"))):
        than = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield _refused(value, path, f"should be {than} {high}")
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield _refused(value, path, f"should be a multiple of {schema['multipleOf']}")


def _validate_list(schema: Json, value: list[Any], path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxItems", len(value)):
        message = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield Cause("FieldValueTooMany", message, path)
    if len(value) < schema.get("minItems", 0):
        yield _refused(value, path, f"should have at least {schema['minItems']} items")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    seen: list[Any] = []
    for index, item in enumerate(value):
        if schema.get("x-kubernetes-list-type") in ("map", "set"):
            identity = {key: item.get(key) for key in keys} if isinstance(item, dict) and keys else item
            if identity in seen:
                yield Cause("FieldValueDuplicate", f"Duplicate value: {_quoted(identity)}", f"{path}[{index}]")
            seen.append(identity)
        yield from validate(schema.get("items") or {}, item, f"{path}[{index}]")


def _validate_map(schema: Json, value: Json, path: str) -> Iterator[Cause]:
    properties: Json = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            yield Cause("FieldValueRequired", "Required value", f"{path}.{name}" if path else name)
    if len(value) > schema.get("maxProperties", len(value)):
        yield Cause(
            "FieldValueTooMany", f"Too many: {len(value)}: must have at most {schema['maxProperties']} items", path
        )
    if len(value) < schema.get("minProperties", 0):
        yield _refused(value, path, f"should have at least {schema['minProperties']} properties")
    extra = schema.get("additionalProperties")
    for name, item in value.items():
        child = properties.get(name, extra)
        if isinstance(child, dict) and not (name == "metadata" and not path):
            yield from validate(child, item, f"{path}.{name}" if path else name)


def _validate_combined(schema: Json, value: Any, path: str) -> Iterator[Cause]:
    for part in schema.get("allOf") or ():
        yield from validate(part, value, path)
    for word, rule, most in (("anyOf", "at least one", None), ("oneOf", "one and only one", 1)):
        parts = schema.get(word) or ()
        fitting = sum(not any(validate(part, value, path)) for part in parts)
        if parts and not 1 <= fitting <= (most or fitting):
            yield Cause("FieldValueInvalid", f'Invalid value: "": "{path}" must validate {rule} schema ({word})', path)
    if "not" in schema and not any(validate(schema["not"], value, path)):
        yield Cause("FieldValueInvalid", f'Invalid value: "": "{path}" must not validate the schema (not)', path)
