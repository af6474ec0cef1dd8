"""docs/policies.md: what it shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from canary.model.objectives import ERROR_TOLERANCES, LATENCY_TOLERANCES
from canary.model.policy import ConnectionPool, CustomMetric, Match, OutlierDetection, Policy, Retry
from canary.model.policy_yaml import parse_policy

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", PAGE.split("\n## ")[0], re.MULTILINE)


def example(name: str) -> Policy:
    (text,) = [text for text in EXAMPLES if text.startswith(f"name: {name}\n")]
    return parse_policy(text, f"{name}.yaml")


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0])
def test_every_example_is_a_policy_and_fits_the_schema_for_editors(text: str) -> None:
    assert isinstance(parse_policy(text, "docs/policies.md"), Policy)
    as_editors_read_it = text.replace("vsStable: off", 'vsStable: "off"')  # YAML 1.2; PyYAML alone reads 1.1
    jsonschema.validate(yaml.safe_load(as_editors_read_it), Policy.model_json_schema(by_alias=True))


def test_every_example_has_its_own_name() -> None:
    names = [yaml.safe_load(text)["name"] for text in EXAMPLES]

    assert len(names) == len(set(names)) >= 8


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    return {f"{prefix}{field.alias}" for field in model.model_fields.values()}


def test_the_table_has_every_field_and_none_that_does_not_exist() -> None:
    analysis, strategy = Policy.model_fields["analysis"].annotation, Policy.model_fields["strategy"].annotation
    assert analysis is not None
    assert strategy is not None
    known = fields(Policy) | fields(strategy, "strategy.") | fields(analysis, "analysis.")
    known |= fields(Match, "strategy.match.")
    known |= {f"analysis.{metric}.{field}" for metric in ("errorRate", "p99") for field in ("max", "vsStable")}
    groups = {"strategy", "analysis", "strategy.match", "analysis.errorRate", "analysis.p99"}
    refused = {"strategy.windows"}

    assert {name for name, _ in ROWS} == known - groups - refused


def test_the_defaults_in_the_table_are_the_defaults() -> None:
    resolved = Policy.model_validate({"name": "x", "strategy": {"weights": [100]}}).document()
    told = {name: cells.split("|")[-1].strip().strip("`") for name, cells in ROWS}

    def default(name: str) -> Any:
        found: Any = resolved
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    for name in ("hold", "bake", "retry", "progressDeadline"):
        assert told[f"strategy.{name}"] == default(f"strategy.{name}")
    for name in (
        "warmup",
        "minRequests",
        "confidence",
        "keepStable",
        "maxWait",
        "onInconclusive",
        "errorRate.vsStable",
    ):
        assert told[f"analysis.{name}"] == str(default(f"analysis.{name}"))
    assert told["analysis.frozenBound"] == str(default("analysis.frozenBound")).lower()


def test_the_tolerances_in_the_table_are_those_that_are_judged_by() -> None:
    for name in ("default", "lenient"):
        (row,) = re.findall(rf"^\| `{name}` \|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
        for cell, tolerances in zip(row, (ERROR_TOLERANCES, LATENCY_TOLERANCES), strict=True):
            tolerance = tolerances[name]
            assert cell.strip() == f"{tolerance.ratio:g}x stable's share + {tolerance.slack * 100:g} %"


def test_the_examples_mean_what_the_text_says() -> None:
    adaptive = example("as-long-as-it-takes").strategy
    assert [adaptive.hold_of(2).total_seconds(), adaptive.longest_hold_of(2).total_seconds()] == [20, 300]
    own = example("new-checkout").analysis
    assert own.error_rate.tolerance is not None
    assert own.error_rate.tolerance.ratio == 1.1
    assert own.p99.tolerance is None
    assert example("careful-at-scale").analysis.harm_budget is not None
    assert [example("to-the-end").weight_of(step) for step in range(5)] == [0, 10, 50, 95, 95]
    assert example("all-at-once").analysis.frozen_bound
    (metric,) = example("with-a-queue").analysis.metrics
    assert isinstance(metric, CustomMetric)
    assert (metric.breaches, metric.of) == (3, 5)
    assert example("flaky-neighbours").strategy.retry is Retry.BACKOFF
    assert "outlier_detection" not in example("as-the-mesh-says").model_fields_set


def test_the_parts_that_are_told_in_one_row_are_all_in_it() -> None:
    told = dict(ROWS)

    for name, model in (("outlierDetection", OutlierDetection), ("connectionPool", ConnectionPool)):
        assert all(f"`{field.alias}`" in told[name] for field in model.model_fields.values())
    assert all(f"`{field.alias}`" in told["analysis.metrics"] for field in CustomMetric.model_fields.values())
