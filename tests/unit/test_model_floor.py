"""When a policy is at least as strict as a floor, field by field, and that it is an order."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from canary.model.floor import below, shortfalls
from canary.model.policy import Policy
from canary.model.policy_yaml import parse_policy
from canary.shipped import shipped

FLOOR = """\
name: floor
strategy: {weights: [10, 50, 100], hold: 2m, pauseAt: [50], bake: 10m}
analysis:
  minRequests: 100
  harmBudget: {errors: 50}
  keepStable: 5%
  errorRate: {max: 1%, vsStable: default}
  p99: {max: 500ms, vsStable: default}
  metrics: [{name: queue, query: up, max: 10, breaches: 3, of: 5}]
  confidence: 99%
  onInconclusive: pause
onDrift: abort
outlierDetection: {consecutive5xxErrors: 5, interval: 10s, maxEjectionPercent: 50}
"""


def policy(text: str = FLOOR, **replaced: str) -> Policy:
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return parse_policy(text, "policy.yaml")


LOOSER = [
    ({"[10, 50, 100]": "[20, 50, 100]"}, "strategy.weights", "gives the canary 20% after 0s, at most 10% by then"),
    (
        {"hold: 2m": "hold: [2m, 1m59s, 2m]"},
        "strategy.weights",
        "gives the canary 95% after 3m59s, at most 50% by then",
    ),
    (
        {"hold: 2m": "hold: {min: 1m, max: 9m}"},
        "strategy.weights",
        "gives the canary 50% after 1m, at most 10% by then",
    ),
    ({"pauseAt: [50]": "pauseAt: []"}, "strategy.pauseAt", "waits for a person 0 times up to 50%, at least once"),
    ({"pauseAt: [50]": "pauseAt: [100]"}, "strategy.pauseAt", "waits for a person 0 times up to 50%, at least once"),
    ({"bake: 10m": "bake: 9m"}, "strategy.bake", "is 9m, at least 10m"),
    ({"bake: 10m": "bake: 10m, retry: backoff"}, "strategy.retry", "is backoff, and must be never"),
    ({"minRequests: 100": "minRequests: 99"}, "analysis.minRequests", "is 99, at least 100"),
    ({"{errors: 50}": "{errors: 51}"}, "analysis.harmBudget.errors", "is 51, at most 50"),
    ({"  harmBudget: {errors: 50}\n": ""}, "analysis.harmBudget.errors", "is missing, at most 50"),
    ({"max: 1%": "max: 1.1%"}, "analysis.errorRate.max", "is 1.1%, at most 1%"),
    ({"max: 1%, ": ""}, "analysis.errorRate.max", "is missing, at most 1%"),
    (
        {"max: 1%, vsStable: default": "max: 1%, vsStable: lenient"},
        "analysis.errorRate.vsStable",
        "tolerates 1.5x stable + 0.1%, at most 1.2x stable + 0.05%",
    ),
    (
        {"max: 1%, vsStable: default": "max: 1%, vsStable: off"},
        "analysis.errorRate.vsStable",
        "is off, at most 1.2x stable + 0.05%",
    ),
    (
        {"max: 1%, vsStable: default": "max: 1%, vsStable: {ratio: 1.0, slack: 1%}"},
        "analysis.errorRate.vsStable",
        "tolerates 1x stable + 1%, at most 1.2x stable + 0.05%",
    ),
    ({"max: 500ms": "max: 1s"}, "analysis.p99.max", "is 1s, at most 500ms"),
    (
        {"max: 500ms, vsStable: default": "max: 500ms, vsStable: off"},
        "analysis.p99.vsStable",
        "is off, at most 1.25x stable + 0.2%",
    ),
    ({"max: 10,": "max: 11,"}, "analysis.metrics.queue", "must have the same query, max at most 10"),
    ({"query: up": "query: vector(0)"}, "analysis.metrics.queue", "must have the same query"),
    ({"breaches: 3": "breaches: 4"}, "analysis.metrics.queue", "breaches in 3 of 5 tiles or sooner"),
    ({"name: queue": "name: line"}, "analysis.metrics", "lacks queue"),
    ({"confidence: 99%": "confidence: 99.9%"}, "analysis.confidence", "is 99.9%, at most 99%"),
    (
        {"onInconclusive: pause": "onInconclusive: promote"},
        "analysis.onInconclusive",
        "is promote, and must be pause or",
    ),
    ({"onDrift: abort": "onDrift: hold"}, "onDrift", "is hold, and must be abort"),
    ({"5xxErrors: 5": "5xxErrors: 6"}, "outlierDetection.consecutive5xxErrors", "is 6, at most 5"),
    ({"interval: 10s": "interval: 1ms"}, "outlierDetection.interval", "is 1ms, and must be 10s"),
    ({"interval: 10s": "interval: 1h"}, "outlierDetection.interval", "is 1h, and must be 10s"),
    ({"Percent: 50": "Percent: 51"}, "outlierDetection.maxEjectionPercent", "is 51, at most 50"),
    (
        {"onInconclusive: pause": "onInconclusive: pause\n  grpcErrors: [INTERNAL]"},
        "analysis.grpcErrors",
        "lacks UNKNOWN, DEADLINE_EXCEEDED, UNAVAILABLE, DATA_LOSS",
    ),
]


@pytest.mark.parametrize(("change", "field", "says"), LOOSER)
def test_a_looser_field_is_named_with_its_value_and_the_floor_s(change: dict[str, str], field: str, says: str) -> None:
    ((found, text),) = shortfalls(policy(**change), policy())

    assert found == field
    assert text.startswith(says) or says in text


STRICTER = [
    {"[10, 50, 100]": "[5, 10, 50, 100]"},
    {"hold: 2m": "hold: 1h"},
    {"pauseAt: [50]": "pauseAt: [10, 50]"},
    {"bake: 10m": "bake: 1h"},
    {"bake: 10m": "bake: 10m, match: {headers: {x: {exact: y}}}"},
    {"minRequests: 100": "minRequests: 1000"},
    {"{errors: 50}": "{errors: 1}"},
    {"keepStable: 5%": "keepStable: 10%"},
    {"max: 1%": "max: 0.5%"},
    {"max: 1%, vsStable: default": "max: 1%, vsStable: strict"},
    {"max: 500ms": "max: 100ms"},
    {"confidence: 99%": "confidence: 95%"},
    {"onInconclusive: pause": "onInconclusive: rollback"},
    {"onInconclusive: pause": "onInconclusive: pause\n  warmup: 5m\n  maxWait: 1h"},
    {"5xxErrors: 5": "5xxErrors: 3"},
    {"breaches: 3": "breaches: 1"},
]


@pytest.mark.parametrize("change", STRICTER)
def test_what_is_stricter_or_only_slower_is_not_below(change: dict[str, str]) -> None:
    assert below(policy(**change), policy()) == ""


def test_keeping_less_on_stable_is_below() -> None:
    found = dict(shortfalls(policy(**{"keepStable: 5%": "keepStable: 4%"}), policy()))

    assert found["analysis.keepStable"] == "is 4%, at least 5%"


def test_a_frozen_bound_is_made_up_for_by_stable_itself() -> None:
    floor = policy(**{"keepStable: 5%": "frozenBound: true"})

    assert below(policy(), floor) == ""
    without = policy(**{"  keepStable: 5%\n": ""})
    assert (
        dict(shortfalls(without, floor))["analysis.frozenBound"] == "is false, and must be true, or keepStable above 0%"
    )


def test_a_retry_may_not_come_sooner_than_the_floor_s() -> None:
    base = "maxEjectionPercent: 50, baseEjectionTime: 1m"
    floor = policy(**{"bake: 10m": "bake: 10m, retry: backoff", "maxEjectionPercent: 50": base})

    assert below(policy(), floor) == ""
    sooner = policy(**{"bake: 10m": "bake: 10m, retry: backoff"})
    assert below(sooner, floor) == "outlierDetection.baseEjectionTime is 30s, at least 1m: the pause before a retry"


def test_the_shipped_policies_in_their_order() -> None:
    names = ("standard", "strict", "lenient", "fast", "header-only")
    known = {name: parse_policy((shipped("policies") / f"{name}.yaml").read_text(), name) for name in names}

    above = {name: [other for other in names if not below(known[other], known[name])] for name in names}

    assert above["strict"] == ["strict"]
    assert above["standard"] == ["standard", "strict"]
    assert below(known["lenient"], known["strict"]).startswith("strategy.weights gives the canary 20% after 0s")
    assert "(and " in below(known["lenient"], known["strict"])


def _choice(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


DOCUMENTS = st.fixed_dictionaries(
    {
        "name": st.just("x"),
        "strategy": st.fixed_dictionaries(
            {
                "weights": _choice([50, 100], [10, 50, 100], [10, 20, 50, 100]),
                "hold": _choice("1m", "2m", {"min": "30s", "max": "5m"}),
                "pauseAt": _choice([], [50], [100], [50, 100]),
                "bake": _choice("0s", "1m"),
                "retry": _choice("never", "backoff"),
            }
        ),
        "analysis": st.fixed_dictionaries(
            {
                "minRequests": _choice(1, 50),
                "harmBudget": _choice(None, {"errors": 5}, {"errors": 50}),
                "grpcErrors": _choice(["INTERNAL"], ["INTERNAL", "UNKNOWN"]),
                "errorRate": _choice({}, {"max": "1%"}, {"max": "2%", "vsStable": "off"}, {"vsStable": "strict"}),
                "p99": _choice({}, {"max": "100ms", "vsStable": {"ratio": 2.0, "slack": "0%"}}),
                "confidence": _choice("95%", "99%"),
                "onInconclusive": _choice("pause", "rollback", "promote"),
            },
            optional={"keepStable": _choice("0%", "5%"), "metrics": _choice([{"name": "q", "query": "up", "max": 1}])},
        ),
        "onDrift": _choice("hold", "abort"),
        "outlierDetection": st.fixed_dictionaries(
            {"consecutive5xxErrors": _choice(3, 5), "baseEjectionTime": _choice("30s", "1m")}
        ),
    }
)
POLICIES = DOCUMENTS.map(Policy.model_validate)


@given(POLICIES)
def test_every_policy_is_as_strict_as_itself(one: Policy) -> None:
    assert shortfalls(one, one) == ()


@given(st.data())
@settings(max_examples=300)
def test_as_strict_as_what_is_as_strict_is_as_strict(data: st.DataObject) -> None:
    """Drawn near each other, or three in a row would hardly ever be in order."""
    base = data.draw(DOCUMENTS)
    varied = []
    for _ in range(3):
        document = yaml.safe_load(yaml.safe_dump(base))
        other = data.draw(DOCUMENTS)
        part = data.draw(st.sampled_from(["strategy", "analysis", "onDrift", "outlierDetection"]))
        document[part] = other[part]
        varied.append(Policy.model_validate(document))
    for a in varied:
        for b in varied:
            for c in varied:
                if not shortfalls(a, b) and not shortfalls(b, c):
                    assert shortfalls(a, c) == ()
