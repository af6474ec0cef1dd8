"""Laws of the embedded API server's pure parts, for any input."""

from __future__ import annotations

import string
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.sandbox.apiserver import apply, jsonpath, managed, patch, schema, selectors
from canary.sandbox.apiserver.answers import ApiError
from canary.sandbox.apiserver.lists import builtin_lists
from canary.sandbox.apiserver.managed import Manager

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2)
names = st.sampled_from(["a", "b", "c", "spec"])
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
objects = st.dictionaries(names, documents, max_size=4)
label_names = st.text(string.ascii_lowercase, min_size=1, max_size=3)
labels = st.dictionaries(label_names, label_names, max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def difference(before: Any, after: Any) -> Any:
    """The merge patch from one document without nulls to another."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    gone = dict.fromkeys(before.keys() - after.keys())
    kept = {key: difference(before.get(key), value) for key, value in after.items() if before.get(key) != value}
    return {**gone, **kept}


@given(objects, objects)
def test_a_merge_patch_made_from_two_documents_leads_from_one_to_the_other(before: Any, after: Any) -> None:
    before, after = without_nulls(before), without_nulls(after)

    assert patch.merge_patch(before, difference(before, after)) == after


@given(objects, objects)
def test_a_merge_patch_twice_is_a_merge_patch_once(document: Any, change: Any) -> None:
    once = patch.merge_patch(document, change)

    assert patch.merge_patch(once, change) == once


@given(objects, objects)
def test_a_json_patch_made_from_two_documents_leads_from_one_to_the_other(before: Any, after: Any) -> None:
    operations = jsonpatch.make_patch(before, after).patch

    assert patch.json_patch(before, operations) == after


@given(objects, objects)
def test_a_patch_leaves_the_object_it_is_given_as_it_was(document: Any, change: Any) -> None:
    kept = patch.copied(document)

    patch.merge_patch(document, change)
    patch.strategic_merge_patch(document, change, builtin_lists)

    assert document == kept


@given(labels, labels)
def test_an_equality_selector_selects_exactly_the_objects_with_those_labels(wanted: Any, have: Any) -> None:
    text = ",".join(f"{key}={value}" for key, value in wanted.items())

    assert selectors.labels(text)({"metadata": {"labels": have}}) is (wanted.items() <= have.items())


@given(label_names, st.sets(label_names, min_size=1, max_size=3), labels)
def test_in_and_notin_are_each_others_opposite(key: str, values: set[str], have: dict[str, str]) -> None:
    listed = ", ".join(sorted(values))
    obj = {"metadata": {"labels": have}}

    assert selectors.labels(f"{key} in ({listed})")(obj) is not selectors.labels(f"{key} notin ({listed})")(obj)


@given(st.text(string.ascii_letters + "=!(),<> /.-", max_size=12))
def test_any_text_is_a_selector_or_a_400(text: str) -> None:
    try:
        answer = selectors.labels(text)
    except ApiError as error:
        answer = error.code

    assert callable(answer) or answer == 400


@given(objects, objects)
def test_applied_values_are_in_the_object_and_applying_again_changes_nothing(live: Any, config: Any) -> None:
    live, config = without_nulls(live), without_nulls(config)
    me = Manager("me", "Apply", "v1")

    merged, managers = apply.apply(live, config, {}, me, builtin_lists, force=False, now="t1")
    again, same = apply.apply(merged, config, managers, me, builtin_lists, force=False, now="t2")

    assert again == merged
    assert same == managers
    have, want = managed.leaves(merged, builtin_lists), managed.leaves(config, builtin_lists)
    assert all(have[path] == value for path, value in want.items() if value not in ({}, []))


@given(objects)
def test_field_sets_survive_their_written_form(document: Any) -> None:
    paths = frozenset(managed.leaves(document, builtin_lists))

    assert frozenset(managed.from_fields_v1(managed.to_fields_v1(paths))) == paths


@given(objects)
def test_what_is_left_after_pruning_has_nothing_unknown(document: Any) -> None:
    known = {
        "type": "object",
        "properties": {"a": {"type": "object", "properties": {"b": {}}}, "spec": {"type": "object"}},
    }

    schema.prune(known, document)

    assert schema.prune(known, document) == []
    assert document.keys() <= {"a", "spec"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.hosts", [["a", "b"]]),
        (".spec.hosts[1]", ["b"]),
        (".spec.hosts[*]", ["a", "b"]),
        (".spec.hosts[5]", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        ('.status.conditions[?(@.type!="Ready")].status', ["False"]),
        (".status.conditions[?(@.count==2)].type", ["Stalled"]),
        (r".metadata.annotations.canary\.delivery/policy", ["careful"]),
        (".metadata.annotations['canary.delivery/policy']", ["careful"]),
        (".status.missing.deeper", []),
    ],
)
def test_printer_columns_find_their_values(path: str, found: list[Any]) -> None:
    obj = {
        "metadata": {"annotations": {"canary.delivery/policy": "careful"}},
        "spec": {"hosts": ["a", "b"]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False", "count": 2}]
        },
    }

    assert jsonpath.find(path, obj) == found


@pytest.mark.parametrize("path", ["spec", ".spec[", ".spec[?(@.a~1)]", ".a..b"])
def test_an_expression_outside_the_supported_part_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="unsupported JSONPath"):
        jsonpath.find(path, {})
