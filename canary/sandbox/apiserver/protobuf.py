"""The protobuf bodies that `kubectl create` and `kubectl auth can-i` send, read into JSON objects.

kubectl offers no JSON for these. Only the messages below are known, by upstream's field numbers
(`k8s.io/api/.../generated.proto`); content in a field that is not listed is refused, never dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from canary.sandbox.apiserver.answers import Json, unsupported_media_type

_MAGIC = b"k8s\x00"
# Message: field number, JSON name, type. Types: str, int, bool, `map` of strings, `bytes-map` of base64, IntOrString or
# another message; a `*` repeats it. Go's zero values are left out, as its JSON does.
_TABLE = """
Meta: 1 name str, 2 generateName str, 3 namespace str, 5 uid str, 6 resourceVersion str, 11 labels map,
  12 annotations map, 14 finalizers str*
Namespace: 1 metadata Meta
ServiceAccount: 1 metadata Meta, 4 automountServiceAccountToken bool
ConfigMap: 1 metadata Meta, 2 data map, 3 binaryData bytes-map, 4 immutable bool
Secret: 1 metadata Meta, 2 data bytes-map, 3 type str, 4 stringData map
Service: 1 metadata Meta, 2 spec ServiceSpec
ServiceSpec: 1 ports ServicePort*, 2 selector map, 3 clusterIP str, 4 type str, 7 sessionAffinity str,
  10 externalName str
ServicePort: 1 name str, 2 protocol str, 3 port int, 4 targetPort IntOrString, 5 nodePort int
Deployment: 1 metadata Meta, 2 spec DeploymentSpec
DeploymentSpec: 1 replicas int, 2 selector LabelSelector, 3 template PodTemplate
LabelSelector: 1 matchLabels map
PodTemplate: 1 metadata Meta, 2 spec PodSpec
PodSpec: 2 containers Container*, 3 restartPolicy str, 6 dnsPolicy str
Container: 1 name str, 2 image str, 3 command str*, 4 args str*, 6 ports ContainerPort*, 14 imagePullPolicy str
ContainerPort: 1 name str, 3 containerPort int, 4 protocol str
SelfSubjectAccessReview: 1 metadata Meta, 2 spec ReviewSpec
ReviewSpec: 1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes PathAttributes
ResourceAttributes: 1 namespace str, 2 verb str, 3 group str, 4 version str, 5 resource str, 6 subresource str,
  7 name str
PathAttributes: 1 path str, 2 verb str
"""


def _parsed(table: str) -> dict[str, dict[int, tuple[str, str]]]:
    messages: dict[str, dict[int, tuple[str, str]]] = {}
    for line in table.replace(",\n", ",").strip().splitlines():
        kind, _, fields = line.partition(":")
        split = [field.split() for field in fields.split(",")]
        messages[kind] = {int(number): (name, type_) for number, name, type_ in split}
    return messages


_MESSAGES = _parsed(_TABLE)
_KEEP_ZERO = ("replicas",)
"""Optional numbers, whose zero is not the same as leaving them out."""


def decode(raw: bytes) -> Json:
    """The object in a Kubernetes protobuf envelope. Raises a 415 for anything not in this module's table."""
    try:
        envelope = dict(_fields(raw.removeprefix(_MAGIC)))
        about = {number: bytes(value).decode() for number, value in _fields(envelope[1])}
        return {"apiVersion": about[1], "kind": about[2], **_message(about[2], envelope[2])}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise unsupported_media_type(("application/json", "application/yaml")) from error


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) pairs: ints of varint fields, bytes of length-delimited ones."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        value, position = _varint(raw, position)
        if wire == 2:
            if position + value > len(raw):
                raise ValueError("truncated")
            yield number, raw[position : position + value]
            position += value
        elif wire == 0:
            yield number, value
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position, value, shift = position + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, position


def _message(kind: str, raw: bytes) -> Json:
    found: Json = {}
    known = _MESSAGES[kind]
    for number, value in _fields(raw):
        if number not in known:
            if value and not _is_empty(value):
                raise ValueError(f"{kind} has content in unknown field {number}")
            continue
        name, type_ = known[number]
        read = _value(type_.rstrip("*"), value)
        if type_.endswith("*"):
            found.setdefault(name, []).append(read)
        elif type_ in ("map", "bytes-map"):
            found.setdefault(name, {}).update(read)
        elif read or (name in _KEEP_ZERO and read == 0):
            found[name] = read
    return found


def _is_empty(value: Any) -> bool:
    """Whether a value is a message of nothing but zero values."""
    try:
        return isinstance(value, bytes) and all(not item or _is_empty(item) for _, item in _fields(value))
    except (ValueError, IndexError):
        return False


def _value(type_: str, value: Any) -> Any:
    match type_:
        case "str":
            return bytes(value).decode()
        case "int":
            return int(value)
        case "bool":
            return bool(value)
        case "map" | "bytes-map":
            pair = dict(_fields(value))
            content = pair.get(2, b"")
            text = base64.b64encode(content).decode() if type_ == "bytes-map" else content.decode()
            return {pair.get(1, b"").decode(): text}
        case "IntOrString":
            pair = dict(_fields(value))
            return pair.get(3, b"").decode() if pair.get(1) else pair.get(2, 0)
    return _message(type_, value)
