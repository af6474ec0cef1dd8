import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.model.policy import ISTIO_BUCKETS_MS
from canary.telemetry import Workload
from canary.telemetry.queries import (
    Scope,
    bound_forms,
    failing_query,
    latency_query,
    literal,
    one_of,
    quoted,
    status_query,
)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def unquoted(text: str) -> str:
    """What Prometheus' lexer (Go's unquote) makes of a double-quoted string."""
    assert text[0] == text[-1] == '"'
    inner = text[1:-1]
    assert not re.search(r'(?<!\\)(?:\\\\)*"', inner), "the string would end early"
    return re.sub(r'\\(?:U([0-9a-f]{8})|([\\"]))', lambda m: chr(int(m[1], 16)) if m[1] else m[2], inner)


@given(names)
def test_a_quoted_name_ends_where_it_ends_and_is_itself(name: str) -> None:
    text = quoted(name)

    assert unquoted(text) == name
    assert text.isprintable()


@given(st.lists(names, min_size=1, max_size=4), names)
def test_an_expression_of_names_matches_these_names_only(chosen: list[str], other: str) -> None:
    # Python's engine agrees with RE2 on escaped literals and |; no pattern of a user gets here.
    pattern = re.compile(unquoted(one_of(chosen)))

    assert all(pattern.fullmatch(name) for name in chosen)
    assert bool(pattern.fullmatch(other)) == (other in chosen)


@given(names)
def test_a_literal_has_no_special_character_left(name: str) -> None:
    assert not re.search(r"(?<!\\)(?:\\\\)*[.+*?()|\[\]{}^$]", literal(name))


@pytest.mark.parametrize(
    ("bound", "forms"),
    [
        (0.5, ("0.5", "0.5")),
        (1, ("1", "1.0")),
        (500, ("500", "500.0")),
        (600000, ("600000", "600000.0")),
        (1800000, ("1800000", "1.8e+06")),
        (3600000, ("3600000", "3.6e+06")),
        (1000000, ("1000000", "1e+06")),
    ],
)
def test_a_bound_is_asked_for_as_prometheus_2_and_3_write_it(bound: float, forms: tuple[str, str]) -> None:
    assert bound_forms(bound) == forms


@pytest.mark.parametrize("bound", ISTIO_BUCKETS_MS)
def test_both_forms_of_a_bound_are_that_bound(bound: float) -> None:
    assert {float(form) for form in bound_forms(bound)} == {bound}


def test_a_query_names_reporter_workloads_window_and_the_guard_for_new_series() -> None:
    scope = Scope(frozenset({Workload("shop", "pay-v2"), Workload("shop", "pay-v1")}), "source")

    query = status_query(scope, 10, with_newest=False)

    series = (
        'istio_requests_total{reporter="source", destination_workload_namespace=~"shop", '
        'destination_workload=~"pay-v1|pay-v2"}'
    )
    now, before = f"last_over_time({series}[5m])", f"last_over_time({series}[5m] offset 10000ms)"
    assert f"({now} - {before}) >= 0" in query
    assert f"({now} < {before} / 2)" in query
    assert f"(({now} unless {before}) and on (job, instance) (up offset 10000ms == 1))" in query


def test_failures_are_5xx_and_the_grpc_statuses_that_count_as_one_and_never_who_went_away() -> None:
    scope = Scope(frozenset({Workload("shop", "pay-v2")}), "source")

    plain, with_grpc = failing_query(scope, 10, []), failing_query(scope, 10, [4, 14])

    series = r'istio_requests_total\{[^}]*destination_workload=~"pay-v2"(?:, ([^}]*))?\}'
    assert set(re.findall(series, plain)) == {'response_code=~"5.."'}
    assert set(re.findall(series, with_grpc)) == {
        'response_code=~"5.."',
        'response_code!~"0|5..", grpc_response_status=~"14|4"',
    }
    assert plain.startswith("count by (destination_workload_namespace, destination_workload) (")


def test_only_the_bounds_in_use_are_asked_for() -> None:
    scope = Scope(frozenset({Workload("shop", "pay-v1")}), "source")

    query = latency_query(scope, 1, [500.0])

    assert set(re.findall(r'le=~?("[^"]*")', query)) == {r'"500\\.0"', r'"\\+Inf|500"', '"+Inf"'}
    assert 'response_code!~"5.."' in query


def test_namespaces_of_targets_are_matched_by_who_reports() -> None:
    workloads = frozenset({Workload("shop", "pay-v1")})
    trusted = frozenset({"ingress", "front"})

    assert ', namespace=~"front|ingress"' in Scope(workloads, "source", trusted_namespaces=trusted).selector("m")
    assert ", namespace=~" not in Scope(workloads, "source").selector("m")
    destination = Scope(workloads, "destination", trusted_namespaces=trusted)
    assert ', namespace=~"shop"' in destination.selector("m")
    assert "namespace" in destination.workload_labels
