"""Whatever a VirtualService or DestinationRule looks like: only what is ours changes, and all of it can be undone."""

import json
from copy import deepcopy

import jsonpatch
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from canary.mesh.istio.added import ADDED
from canary.mesh.istio.router import IstioRouter
from canary.mesh.router import MeshView
from canary.model.policy import Match, Policy
from canary.model.route import Arm, Route

ROUTER = IstioRouter()
POLICY = Policy.model_validate({"name": "standard", "strategy": {"weights": [10, 100]}})
DEBUG = Match.model_validate({"headers": {"x-debug-user": {"exact": "true"}}})
ABSENT = object()

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)
unknown_fields = st.dictionaries(st.text(max_size=6).map(lambda text: "zz" + text), values, max_size=2)
weight_fields = st.sampled_from([ABSENT, None, 0, 1, 37, 100])
hosts = st.sampled_from(["payment", "payment.default.svc.cluster.local"])


def entry(destination, weight, unknown):
    return {"destination": destination, **unknown} | ({} if weight is ABSENT else {"weight": weight})


@st.composite
def primary_routes(draw):
    """A route with stable, perhaps the canary at nothing, and foreign destinations that leave stable something."""
    port = draw(st.sampled_from([{}, {"port": {"number": 80}}]))
    host = draw(hosts)

    def arm(subset, weight):
        return entry({"host": host, "subset": subset, **port, **draw(unknown_fields)}, weight, draw(unknown_fields))

    foreign = [
        entry({"host": name}, weight, draw(unknown_fields))
        for name, weight in draw(
            st.lists(st.tuples(st.sampled_from(["legacy", "old"]), st.integers(0, 40)), max_size=2)
        )
    ]
    left = 100 - sum(one["weight"] for one in foreign)
    canary = draw(st.sampled_from([None, ABSENT, 0])) if draw(st.booleans()) else "not listed"
    alone = not foreign and canary == "not listed"
    stable = draw(weight_fields) if alone else left if foreign else draw(st.sampled_from([1, 3, 100]))
    entries = [arm("v1", stable), *foreign] + ([] if canary == "not listed" else [arm("v2", canary)])
    route = {**draw(unknown_fields), "route": draw(st.permutations(entries))}
    if draw(st.booleans()):
        route["name"] = "primary"
    optional = {
        "timeout": "2s",
        "retries": {"attempts": 2, "retryOn": "5xx"},
        "mirror": {"host": "shadow"},
        "mirrors": [{"destination": {"host": "payment", "subset": "v1"}, "percentage": {"value": 1.5}}],
        "corsPolicy": {"allowOrigins": [{"regex": "https://<&>"}]},
        "match": [{"uri": {"prefix": "/a"}, "headers": {"x-tier": {"exact": "gold"}}}, {"queryParams": {"a": {}}}],
    }
    return route | {key: optional[key] for key in draw(st.sets(st.sampled_from(sorted(optional))))}


other_routes = st.builds(
    lambda host, unknown, weights: {
        **unknown,
        "name": "other",
        "route": [entry({"host": host}, weight, {}) for weight in weights],
    },
    st.sampled_from(["orders", "payment"]),
    unknown_fields,
    st.lists(weight_fields, min_size=1, max_size=3),
)


@st.composite
def virtual_services(draw):
    before, after = draw(st.lists(other_routes, max_size=2)), draw(st.lists(other_routes, max_size=2))
    metadata = {"name": "payment", "namespace": "default", "resourceVersion": "1", **draw(unknown_fields)}
    if draw(st.booleans()):
        metadata["annotations"] = {"team": "pay", "example.com/a~b": "c"}
    spec = {"hosts": ["payment"], **draw(unknown_fields), "http": [*before, draw(primary_routes()), *after]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}


weights = st.integers(0, 100)
steps = st.lists(st.tuples(weights, st.sampled_from([None, DEBUG]), st.sampled_from(["", "mark"])), max_size=5)


def primary_of(document):
    """The primary route and its index, found without the code under test."""
    ours = _record(document)
    names = {one.get("headerRoute") for one in ours.values()} - {None}
    ((index, http),) = [
        (index, http)
        for index, http in enumerate(document["spec"]["http"])
        if http.get("name") not in names and any(one["destination"].get("subset") == "v1" for one in http["route"])
    ]
    return index, http


def _record(document):
    text = document["metadata"].get("annotations", {}).get(ADDED)
    return json.loads(text)["payment"] if text else {}


def route_in(document):
    arms = [Arm(f"payment-{subset}", subset, "version", subset) for subset in ("v1", "v2")]
    _, http = primary_of(document)
    return Route("default", "payment", "payment", http.get("name", ""), "payment", None, *arms)


def view(document):
    return MeshView("default", virtual_services=(document,))


def patched(document, write):
    if write is None:
        return document
    assert (write.verb, write.kind, write.name, write.pins) == (
        "patch",
        "VirtualService",
        "payment",
        document["metadata"]["resourceVersion"],
    )
    new = jsonpatch.apply_patch(document, write.body)
    return {**new, "metadata": {**new["metadata"], "resourceVersion": str(int(write.pins) + 1)}}


def moved(document, weight, match, mark=""):
    return patched(document, ROUTER.shift(view(document), route_in(document), weight, match, mark))


def without_ours(document):
    """The document with everything that canary may write taken out."""
    rest = deepcopy(document)
    index, http = primary_of(rest)
    record = _record(rest).get("v2", {})
    for one in http["route"]:
        if one["destination"].get("subset") in ("v1", "v2"):
            one.pop("weight", None)
    if record.get("destination"):
        http["route"] = [one for one in http["route"] if one["destination"].get("subset") != "v2"]
    if record.get("headerRoute"):
        assert rest["spec"]["http"].pop(index - 1)["name"] == record["headerRoute"]
    rest["metadata"].pop("resourceVersion")
    annotations = rest["metadata"].pop("annotations", {})
    rest["metadata"]["annotations"] = {key: annotations[key] for key in annotations if "canary.delivery" not in key}
    return rest


@given(virtual_services(), steps)
def test_everything_that_is_not_ours_stays_byte_for_byte_and_the_input_is_never_changed(document, sequence):
    original, now = deepcopy(document), document

    for weight, match, mark in sequence:
        before = deepcopy(now)
        after = moved(now, weight, match, mark)
        assert now == before
        now = after
        assert json.dumps(without_ours(now), sort_keys=True) == json.dumps(without_ours(original), sort_keys=True)


@given(virtual_services(), steps)
def test_what_was_asked_is_what_the_route_then_says_and_asking_twice_writes_once(document, sequence):
    for weight, match, mark in sequence:
        document = moved(document, weight, match, mark)
        state = ROUTER.read(view(document), route_in(document))
        _, http = primary_of(document)
        by_subset = {one["destination"].get("subset"): one for one in http["route"]}
        foreign = sum(one["weight"] for one in http["route"] if one["destination"]["host"] in ("legacy", "old"))

        assert ROUTER.shift(view(document), route_in(document), weight, match, mark) is None
        assert (state.header, state.mark) == (match is not None, mark)
        expected = weight * (100 - foreign) // 100
        assert state.weight * (100 - foreign) // 100 == expected
        if expected:
            assert by_subset["v2"]["weight"] == expected
            assert by_subset["v1"]["weight"] == 100 - foreign - expected


@given(virtual_services(), steps)
def test_rolled_back_and_cleaned_up_is_the_original_document_exactly(document, sequence):
    original = deepcopy(document)
    for weight, match, mark in sequence:
        document = moved(document, weight, match, mark)

    document = moved(document, 0, None, "rolled back")
    cleaning = 0
    while writes := ROUTER.clean_up(view(document), route_in(document), keep=frozenset({"v1"})):
        (write,) = writes
        document = patched(document, write)
        cleaning += 1

    assert cleaning == 1
    document["metadata"]["resourceVersion"] = "1"
    assert document == original


def _renamed(document, index):
    document["spec"]["http"][index]["name"] = "renamed"


def _another_stable(document, index):
    for one in document["spec"]["http"][index]["route"]:
        if one["destination"].get("subset") == "v1":
            one["destination"]["subset"] = "v0"


def _another_host(document, index):
    document["spec"]["http"][index]["route"][0]["destination"]["host"] = "elsewhere"


def _shifted_by_a_route(document, index):
    document["spec"]["http"].insert(0, {"name": "new", "route": [{"destination": {"host": "new"}}]})


def _fewer_routes(document, index):
    del document["spec"]["http"][index]


@given(virtual_services(), st.integers(1, 100), st.sampled_from([None, DEBUG]), st.data())
def test_a_patch_is_refused_by_a_document_whose_route_is_another(document, weight, match, data):
    write = ROUTER.shift(view(document), route_in(document), weight, match)
    assume(write is not None)
    index, http = primary_of(document)
    changes = [_another_stable, _another_host, _shifted_by_a_route, _fewer_routes]
    change = data.draw(st.sampled_from([*changes, _renamed] if "name" in http else changes))
    changed = deepcopy(document)

    change(changed, index)

    with pytest.raises((jsonpatch.JsonPatchException, jsonpatch.JsonPointerException)):
        jsonpatch.apply_patch(changed, write.body)


@given(virtual_services(), st.integers(1, 99))
def test_every_patch_carries_the_version_it_was_decided_on(document, weight):
    write = ROUTER.shift(view(document), route_in(document), weight, None)

    assume(write is not None)
    assert {"op": "replace", "path": "/metadata/resourceVersion", "value": "1"} in write.body


subset_entries = st.builds(
    lambda name, labels, unknown: {"name": name, **({} if labels is None else {"labels": labels}), **unknown},
    st.sampled_from(["v0", "v1", "green", "all"]),
    st.sampled_from([None, {}, {"version": "v1"}, {"version": "v1", "app": "payment"}]),
    unknown_fields,
)


@st.composite
def destination_rules(draw):
    metadata = {"name": "rules", "namespace": "default", "resourceVersion": "1", **draw(unknown_fields)}
    spec = {"host": draw(hosts), "trafficPolicy": draw(values), **draw(unknown_fields)}
    subsets = draw(st.lists(subset_entries, min_size=1, max_size=4) | st.sampled_from([None, ABSENT]))
    if subsets is not ABSENT:
        spec["subsets"] = subsets
    return {"metadata": metadata, "spec": spec}


@given(destination_rules())
def test_a_rule_only_gains_subsets_and_gives_them_back(rule):
    original = deepcopy(rule)
    arms = [Arm(f"payment-{subset}", subset, "version", subset) for subset in ("v1", "v2")]
    route = Route("default", "payment", "payment", "", "payment", None, *arms)

    (write,) = ROUTER.prepare(MeshView("default", destination_rules=(rule,)), route, POLICY)
    assert rule == original
    prepared = jsonpatch.apply_patch(rule, write.body)

    kept = original["spec"].get("subsets") or []
    assert prepared["spec"]["subsets"][: len(kept)] == kept
    assert {"v1", "v2"} <= {subset["name"] for subset in prepared["spec"]["subsets"]}
    assert {**prepared["spec"], "subsets": None} == {**original["spec"], "subsets": None}
    assert ROUTER.prepare(MeshView("default", destination_rules=(prepared,)), route, POLICY) == []

    (write,) = ROUTER.clean_up(MeshView("default", destination_rules=(prepared,)), route, keep=frozenset())
    cleaned = jsonpatch.apply_patch(prepared, write.body)
    assert cleaned["metadata"] == original["metadata"]
    if cleaned["spec"].get("subsets") is None and original["spec"].get("subsets") is None:
        original["spec"].pop("subsets", None)  # the API server takes null for absent
    assert cleaned == original
