"""The policy itself: every promised field, what the steps mean, and a digest that is the same for equal policies."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from canary.model.policy import GrpcStatus, Policy
from canary.model.policy_yaml import parse_policy
from canary.shipped import shipped

EVERY_FIELD = """
name: everything
strategy:
  match:
    headers: {x-debug-user: {exact: "true"}, x-group: {prefix: beta}, cookie: {regex: ".*a=b.*"}}
    hold: 5m
    keep: true
  weights: [10, 25, 50, 75, 100]
  hold: [1m, 2m, 3m, 4m, 5m]
  pauseAt: [50]
  bake: 10m
  windows: []
  retry: backoff
  progressDeadline: 10m
analysis:
  warmup: 30s
  minRequests: 50
  harmBudget: {errors: 50}
  keepStable: 5%
  frozenBound: false
  grpcErrors: [UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS]
  errorRate: {max: 1%, vsStable: {ratio: 1.5, slack: 0.5%}}
  p99: {max: 500ms, vsStable: default}
  metrics:
    - {name: queue, query: 'max(queue_length{app="{{canary}}"})', max: 100.0, breaches: 2, of: 4}
  confidence: 99%
  onInconclusive: rollback
  maxWait: 10m
onDrift: abort
allowedNamespaces: ["*"]
outlierDetection: {consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s, maxEjectionPercent: 100}
connectionPool:
  tcp: {maxConnections: 100, connectTimeout: 3s}
  http: {http1MaxPendingRequests: 10, http2MaxRequests: 20, maxRequestsPerConnection: 0, maxRetries: 3}
"""


@pytest.fixture
def everything() -> Policy:
    return parse_policy(EVERY_FIELD, "everything.yaml")


def policy(**strategy: Any) -> Policy:
    return Policy.model_validate({"name": "x", "strategy": strategy})


def test_every_field_of_a_policy_is_kept_as_it_was_written(everything: Policy) -> None:
    written = yaml.safe_load(EVERY_FIELD)

    resolved = everything.document()

    assert resolved["strategy"]["match"].pop("minRequests") == 0  # the one default that is not in the text
    assert resolved == written


def test_defaults_are_spelled_out_in_the_resolved_policy() -> None:
    resolved = policy(weights=[100]).document()

    assert resolved["analysis"]["warmup"] == "30s"
    assert resolved["strategy"]["progressDeadline"] == "10m"
    assert resolved["outlierDetection"]["consecutive5xxErrors"] == 5
    assert resolved["onDrift"] == "hold"
    assert "connectionPool" not in resolved


@pytest.mark.parametrize("path", sorted(shipped("policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_frozen_policy_reads_back_as_the_same_one(path: Any) -> None:
    original = parse_policy(path.read_text(), str(path))

    again = Policy.model_validate(json.loads(original.canonical_json))

    assert again == original
    assert again.digest == original.digest


durations = st.integers(1, 10**10).map(lambda microseconds: timedelta(microseconds=microseconds))
shares = st.integers(1, 96_999).map(lambda count: f"{count / 1000:g}%")


policies = st.fixed_dictionaries(
    {
        "name": st.just("x"),
        "strategy": st.fixed_dictionaries(
            {
                "weights": st.sets(st.integers(1, 99), max_size=10).map(lambda weights: [*sorted(weights), 100]),
                "hold": durations,
                "bake": durations,
            }
        ),
        "analysis": st.fixed_dictionaries(
            {
                "errorRate": st.fixed_dictionaries({"max": shares}),
                "p99": st.just({"max": "0.5ms"}),
                "confidence": st.integers(500, 999).map(lambda permille: f"{permille / 10:g}%"),
                "minRequests": st.integers(1, 10**6),
            }
        ),
    }
)


@given(policies)
def test_any_policy_survives_being_frozen(document: dict[str, Any]) -> None:
    original = Policy.model_validate(document)

    assert Policy.model_validate(json.loads(original.canonical_json)) == original


def test_the_digest_ignores_order_and_writing_but_not_meaning() -> None:
    one = parse_policy("name: x\nstrategy: {weights: [50, 100], hold: 90s}\n", "a")
    same = parse_policy("strategy:\n  hold: 1m30s\n  weights:\n  - 50\n  - 100\nname: x\nonDrift: hold\n", "b")
    other = parse_policy("name: x\nstrategy: {weights: [50, 100], hold: 91s}\n", "c")

    assert one.digest == same.digest
    assert one.digest != other.digest


def test_the_digest_is_the_same_in_another_process_with_another_hash_seed() -> None:
    script = (
        "import sys; from canary.model.policy_yaml import parse_policy\n"
        "print(parse_policy(sys.stdin.read(), '').digest)"
    )

    printed = subprocess.run(
        [sys.executable, "-c", script],
        input=EVERY_FIELD,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12345"},
    ).stdout.strip()

    assert printed == parse_policy(EVERY_FIELD, "").digest
    assert len(printed) == 16


def test_the_digest_of_a_policy_is_pinned() -> None:
    """A change here means that every rollout under way would lose its frozen policy at an upgrade."""
    assert policy(weights=[50, 100]).digest == "db1c0ec8770ef2b4"


def test_steps_are_the_header_stage_the_weights_and_the_bake(everything: Policy) -> None:
    strategy = everything.strategy

    assert [strategy.weight_of(step) for step in range(7)] == [0, 10, 25, 50, 75, 100, 100]
    assert [strategy.hold_of(step) for step in range(7)] == [timedelta(minutes=m) for m in (5, 1, 2, 3, 4, 5, 10)]
    assert (strategy.first_step, strategy.last_step) == (0, 5)


def test_without_a_match_the_first_step_is_the_first_weight() -> None:
    strategy = policy(weights=[20, 100], hold="1m").strategy

    assert strategy.first_step == 1
    assert strategy.hold_of(1) == strategy.hold_of(2) == timedelta(minutes=1)
    assert strategy.hold_of(3) == timedelta(0)


def test_a_header_only_canary_goes_to_100_at_once_when_promoted() -> None:
    strategy = policy(match={"headers": {"x-debug-user": {"exact": "true"}}}).strategy

    assert strategy.is_header_only
    assert (strategy.first_step, strategy.last_step, strategy.plan) == (0, 1, (100,))
    assert [strategy.weight_of(step) for step in range(3)] == [0, 100, 100]


def test_the_confidence_is_shared_by_the_two_judged_metrics(everything: Policy) -> None:
    assert everything.analysis.alpha == pytest.approx(0.005)


def test_how_much_worse_than_stable_is_tolerated_has_names_and_may_be_ones_own(everything: Policy) -> None:
    def tolerance(choice: Any) -> tuple[float, float] | None:
        analysis = {"errorRate": {"vsStable": choice}}
        found = Policy.model_validate({"name": "x", "strategy": {"weights": [100]}, "analysis": analysis}).analysis
        return found.error_rate.tolerance and (found.error_rate.tolerance.ratio, found.error_rate.tolerance.slack)

    assert everything.analysis.p99.tolerance is not None
    assert (everything.analysis.p99.tolerance.ratio, everything.analysis.p99.tolerance.slack) == (1.25, 0.002)
    assert tolerance("default") == (1.2, 0.0005)
    assert tolerance("lenient") == (1.5, 0.001)
    assert tolerance("strict") == (1.0, 0.0)
    assert tolerance({"ratio": 1.5, "slack": "0.5%"}) == (1.5, 0.005)
    assert tolerance("off") is None
    assert policy(weights=[100]).analysis.error_rate.vs_stable == "default"


def test_an_adaptive_step_has_a_least_and_a_longest_time(everything: Policy) -> None:
    strategy = policy(weights=[50, 100], hold={"min": "20s", "max": "5m"}, bake="1m").strategy

    assert [strategy.hold_of(step) for step in range(4)] == [timedelta(seconds=s) for s in (0, 20, 20, 60)]
    assert [strategy.longest_hold_of(step) for step in range(4)] == [timedelta(seconds=s) for s in (0, 300, 300, 60)]
    assert everything.strategy.longest_hold_of(2) == everything.strategy.hold_of(2)


def test_stable_keeps_a_share_or_bounds_are_frozen_but_not_both(everything: Policy) -> None:
    assert everything.analysis.keep_stable_weight == 5
    assert policy(weights=[100]).analysis.keep_stable_weight == 0
    with pytest.raises(ValidationError, match="leave out frozenBound"):
        Policy.model_validate(
            {"name": "x", "strategy": {"weights": [100]}, "analysis": {"keepStable": "5%", "frozenBound": True}}
        )


def test_grpc_codes_have_the_numbers_of_the_specification() -> None:
    assert {code.name: code.number for code in GrpcStatus if code.number in (1, 2, 4, 13, 14, 16)} == {
        "CANCELLED": 1,
        "UNKNOWN": 2,
        "DEADLINE_EXCEEDED": 4,
        "INTERNAL": 13,
        "UNAVAILABLE": 14,
        "UNAUTHENTICATED": 16,
    }


def test_a_policy_cannot_be_changed_after_it_was_read(everything: Policy) -> None:
    with pytest.raises(ValidationError):
        everything.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", "Big", "a b", "-a", "a-", "a" * 64, "a\n", "ä", "a.b", "../a", "x\x1b[31m"])
def test_a_policy_name_is_a_plain_dns_label(name: str) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({"name": name, "strategy": {"weights": [100]}})


@pytest.mark.parametrize("value", ["x\x1b[31m", "a\nb", "\x7f", "\x9b"])
def test_a_header_value_with_control_characters_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        policy(match={"headers": {"x-debug-user": {"exact": value}}})


@pytest.mark.parametrize("path", sorted(shipped("policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_exported_json_schema_accepts_every_shipped_policy(path: Any) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), Policy.model_json_schema(by_alias=True))


def test_the_exported_json_schema_refuses_an_unknown_field() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            {"name": "x", "strategy": {"weights": [100]}, "speed": 1}, Policy.model_json_schema(by_alias=True)
        )
