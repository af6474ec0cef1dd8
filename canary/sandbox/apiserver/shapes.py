"""Small schemas of the built-in kinds: the fields that this server or its clients rely on, and nothing more.

Fields that are not listed are stored unchecked; their full schemas are the real server's.
"""

from __future__ import annotations

from typing import Any

from canary.sandbox.apiserver.answers import Json

_STRING: Json = {"type": "string"}
_BOOLEAN: Json = {"type": "boolean"}
_INSTANT: Json = {"type": "string", "format": "date-time"}
_STRINGS: Json = {"type": "object", "additionalProperties": _STRING}


def _count(minimum: int = 0, **more: int) -> Json:
    return {"type": "integer", "minimum": minimum, **more}


def _object(*required: str, **properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _list(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


_CONDITIONS = _list(_object("type", "status", type=_STRING, status=_STRING))
_PORT = _count(1, maximum=65535)
_CONTAINERS = _list(
    _object(
        "name",
        name=_STRING,
        image=_STRING,
        ports=_list(_object("containerPort", containerPort=_PORT, protocol=_STRING)),
        env=_list(_object("name", name=_STRING, value=_STRING)),
    ),
    minItems=1,
)
_POD_SPEC = _object("containers", containers=_CONTAINERS, nodeName=_STRING, readinessGates=_list(_object()))
_CONTAINER_STATUS = _object(
    ready=_BOOLEAN, restartCount=_count(), state=_object(waiting=_object(reason=_STRING), running=_object())
)
_WORKLOAD_SPEC = _object(
    "selector",
    "template",
    replicas=_count(),
    selector=_object(matchLabels=_STRINGS),
    strategy=_object(type=_STRING, rollingUpdate=_object()),
    template=_object("spec", metadata=_object(labels=_STRINGS), spec=_POD_SPEC),
)
_REPLICA_COUNTS = {
    name: _count()
    for name in ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas", "observedGeneration")
}
_VERSION_OF_KIND = _object(
    *("name", "served", "storage", "schema"),
    name={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
    served=_BOOLEAN,
    storage=_BOOLEAN,
    schema=_object("openAPIV3Schema", openAPIV3Schema=_object()),
    subresources=_object(
        status=_object(),
        scale=_object("specReplicasPath", "statusReplicasPath", specReplicasPath=_STRING, statusReplicasPath=_STRING),
    ),
    additionalPrinterColumns=_list(
        _object(
            *("name", "type", "jsonPath"),
            name=_STRING,
            type={"type": "string", "enum": ["boolean", "date", "integer", "number", "string"]},
            jsonPath=_STRING,
            priority={"type": "integer"},
        )
    ),
    selectableFields=_list(_object("jsonPath", jsonPath=_STRING)),
)
_NAMES_OF_KIND = _object(
    *("kind", "plural"),
    **dict.fromkeys(("kind", "plural", "singular", "listKind"), _STRING),
    **{name: _list(_STRING) for name in ("shortNames", "categories")},
)

NAMESPACE = _object(spec=_object(), status=_object(phase=_STRING))
POD = _object(
    "spec",
    spec=_POD_SPEC,
    status=_object(phase=_STRING, podIP=_STRING, conditions=_CONDITIONS, containerStatuses=_list(_CONTAINER_STATUS)),
)
WORKLOAD = _object("spec", spec=_WORKLOAD_SPEC, status=_object(conditions=_CONDITIONS, **_REPLICA_COUNTS))
SERVICE = _object(
    spec=_object(
        selector=_STRINGS, type=_STRING, ports=_list(_object("port", port=_PORT, nodePort=_count(maximum=65535)))
    )
)
CONFIG_MAP = _object(data=_STRINGS, binaryData=_STRINGS, immutable=_BOOLEAN)
SECRET = _object(data=_STRINGS, stringData=_STRINGS, type=_STRING, immutable=_BOOLEAN)
SERVICE_ACCOUNT = _object(secrets=_list(_object()))
NODE = _object(spec=_object(), status=_object(conditions=_CONDITIONS, nodeInfo=_object()))
LEASE = _object(
    spec=_object(
        holderIdentity=_STRING,
        leaseDurationSeconds=_count(1),
        leaseTransitions=_count(),
        acquireTime=_INSTANT,
        renewTime=_INSTANT,
    )
)
EVENT = _object(
    "involvedObject",
    involvedObject=_object(kind=_STRING, name=_STRING),
    source=_object(component=_STRING, host=_STRING),
    series=_object(count=_count(), lastObservedTime=_INSTANT),
    count=_count(),
    **dict.fromkeys(("firstTimestamp", "lastTimestamp", "eventTime"), _INSTANT),
    **dict.fromkeys(("type", "reason", "message", "reportingComponent", "reportingInstance"), _STRING),
)
_ENDPOINT_PORTS = _list(_object(port=_PORT))
ENDPOINTS = _object(subsets=_list(_object(addresses=_list(_object("ip", ip=_STRING)), ports=_ENDPOINT_PORTS)))
ENDPOINT_SLICE = _object(
    "addressType",
    addressType=_STRING,
    endpoints=_list(_object("addresses", addresses=_list(_STRING))),
    ports=_ENDPOINT_PORTS,
)
DEFINITION = _object(
    "spec",
    spec=_object(
        *("group", "names", "scope", "versions"),
        group=_STRING,
        names=_NAMES_OF_KIND,
        scope={"type": "string", "enum": ["Cluster", "Namespaced"]},
        versions=_list(_VERSION_OF_KIND, minItems=1),
    ),
)
REVIEW = _object("spec", spec=_object())
