"""What a write would leave behind, against the library that does it for the sandbox's API server."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import jsonpatch
import pytest

from canary.mesh.patched import patched, value_at

THING = {
    "metadata": {"name": "payment", "annotations": {"a/b": "1"}},
    "spec": {"http": [{"name": "primary", "route": [{"weight": 100}]}, {"name": "other"}]},
}

OPERATIONS: list[list[dict[str, Any]]] = [
    [{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 90}],
    [{"op": "add", "path": "/spec/http/0/route/-", "value": {"weight": 10}}],
    [{"op": "add", "path": "/spec/http/0", "value": {"name": "header"}}, {"op": "remove", "path": "/spec/http/2"}],
    [{"op": "add", "path": "/metadata/annotations/c~1d", "value": "2"}],
    [{"op": "remove", "path": "/metadata/annotations/a~1b"}],
    [{"op": "test", "path": "/spec/http/1/name", "value": "other"}, {"op": "remove", "path": "/spec/http/1"}],
    [{"op": "remove", "path": "/metadata/annotations"}, {"op": "add", "path": "/metadata/annotations", "value": {}}],
]


@pytest.mark.parametrize("operations", OPERATIONS)
def test_a_patch_leaves_what_the_library_leaves_and_touches_nothing_given(operations: list[dict[str, Any]]) -> None:
    before = deepcopy(THING)

    assert patched(THING, operations) == jsonpatch.apply_patch(before, operations)
    assert before == THING


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/spec/http/7/name", "value": "x"},
        {"op": "remove", "path": "/spec/nothing"},
        {"op": "test", "path": "/metadata/name", "value": "other"},
        {"op": "replace", "path": "/metadata/nothing", "value": 1},
        {"op": "move", "path": "/metadata/name", "from": "/spec"},
    ],
)
def test_an_operation_that_does_not_fit_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="operation"):
        patched(THING, [operation])


def test_a_pointer_to_nothing_finds_nothing() -> None:
    assert value_at(THING, "/spec/http/0/route/0/weight") == 100
    assert value_at(THING, "/spec/http/9/route") is None
    assert value_at(THING, "/metadata/annotations/a~1b") == "1"
