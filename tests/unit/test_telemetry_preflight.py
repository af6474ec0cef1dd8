from typing import Any

import pytest

from canary.errors import TelemetryAnswer
from canary.telemetry import SourceSettings
from canary.telemetry.preflight import SourceFacts, inspect

SETTINGS = SourceSettings("http://prom:9090")


class Script:
    """A Prometheus that answers each kind of question with fixed rows."""

    def __init__(self, kinds: list[dict[str, str]]) -> None:
        self.kinds = [{"metric": kind, "value": [0, "7"]} for kind in kinds]
        self.latency: list[Any] = [{"metric": {}, "value": [0, "7"]}]
        self.without_up: list[Any] = []
        self.outliers: list[Any] = [{"metric": {}, "value": [0, "7"]}]
        self.steal: list[Any] = [{"metric": {}, "value": [0, "7"]}]
        self.istiod: list[Any] = [{"metric": {}, "value": [0, "7"]}]
        self.longest: list[Any] = [{"metric": {}, "value": [0, "0.25"]}]
        self.jobs: list[Any] = [{"metric": {"job": "envoy", "instance": "a:1"}, "value": [0, "1"]}]
        self.up: list[Any] = [{"metric": {"job": "envoy"}, "values": [[0, "1"], [15, "0"], [30.02, "1"], [45, "1"]]}]

        self.asked: list[str] = []

    def __call__(self, query: str) -> list[Any]:
        self.asked.append(query)
        answers = {
            "count by (reporter": self.kinds,
            'le="+Inf"': self.latency,
            "unless on (job, instance) up": self.without_up,
            "scrape_duration_seconds": self.longest,
            "ejections_active": self.outliers,
            "node_cpu_seconds_total": self.steal,
            "pilot_": self.istiod,
            "topk": self.jobs,
            "up{": self.up,
        }
        return next(rows for part, rows in answers.items() if part in query)


def test_a_sound_source_has_no_problems() -> None:
    facts = inspect(Script([{"reporter": "source"}, {"reporter": "destination"}]), SETTINGS)

    assert facts == SourceFacts(
        15.0, 0.25, "source", up_joined=True, has_ejections=True, has_steal=True, has_control_plane=True
    )


def test_a_source_without_istio_metrics_names_the_metric_and_the_address() -> None:
    facts = inspect(Script([]), SETTINGS)

    assert not facts.has_requests
    assert facts.scrape_interval_s is None
    assert facts.problems[0].startswith("Prometheus at http://prom:9090 has no istio_requests_total")


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        (["destination", "waypoint", "source"], "source"),
        (["destination", "waypoint"], "waypoint"),
        (["destination"], "destination"),
    ],
)
def test_one_reporter_is_chosen_the_callers_first(found: list[str], chosen: str) -> None:
    kinds = [{"reporter": reporter, "namespace": "shop"} for reporter in found]

    assert inspect(Script(kinds), SETTINGS).reporter == chosen


def test_targets_without_up_degrade_the_source() -> None:
    script = Script([{"reporter": "source"}])
    script.without_up = [{"metric": {"job": "federate"}, "value": [0, "7"]}]

    facts = inspect(script, SETTINGS)

    assert not facts.up_joined
    assert facts.problems[0].startswith("degraded: the first errors of a new series are missed")


def test_a_source_that_counts_twice_is_named() -> None:
    kinds = [{"reporter": "source", "prometheus_replica": replica} for replica in ("a", "b")]

    (problem,) = inspect(Script(kinds), SETTINGS).problems

    assert problem.startswith("each request is counted 2 times")
    assert "`prometheus_replica`" in problem


def test_one_replica_label_is_no_problem() -> None:
    assert inspect(Script([{"reporter": "source", "prometheus_replica": "a"}]), SETTINGS).problems == ()


def test_a_called_pods_series_without_the_target_namespace_cannot_be_believed() -> None:
    (problem,) = inspect(Script([{"reporter": "destination"}]), SETTINGS).problems

    assert "no target has the label `namespace`" in problem


def test_a_source_without_latency_says_so() -> None:
    script = Script([{"reporter": "source"}])
    script.latency = []

    (problem,) = inspect(script, SETTINGS).problems

    assert problem == "no istio_request_duration_milliseconds_bucket: latency cannot be judged"


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("outliers", "degraded: no envoy_cluster_outlier_detection_ejections_active with"),
        ("steal", "degraded: no node exporter"),
    ],
)
def test_what_only_helps_is_missed_and_keeps_nobody_from_starting(missing: str, sentence: str) -> None:
    script = Script([{"reporter": "source"}])
    setattr(script, missing, [])

    facts = inspect(script, SETTINGS)

    (problem,) = facts.problems
    assert problem.startswith(sentence)
    assert facts.blocking == ""
    assert (facts.has_ejections, facts.has_steal) == (missing != "outliers", missing != "steal")


def test_a_mesh_without_istiods_metrics_is_sound() -> None:
    script = Script([{"reporter": "source"}])
    script.istiod = []

    facts = inspect(script, SETTINGS)

    assert (facts.has_control_plane, facts.problems) == (False, ())
    (asked,) = (query for query in script.asked if "pilot_" in query)
    assert asked.count('{namespace="istio-system"}') == 2


def test_the_slowest_job_sets_the_scrape_interval_and_the_longest_scrape_the_settle_time() -> None:
    script = Script([{"reporter": "source"}])
    script.up.append({"metric": {"job": "remote"}, "values": [[0, "1"], [60, "1"], [120, "1"]]})
    script.longest = [{"metric": {}, "value": [0, "4.5"]}]

    facts = inspect(script, SETTINGS)

    assert facts.scrape_interval_s == 60.0
    assert facts.settle_s == 9.0


def test_one_scrape_is_no_interval_yet() -> None:
    script = Script([{"reporter": "source"}])
    script.up = [{"metric": {"job": "envoy"}, "values": [[0, "1"]]}]

    assert inspect(script, SETTINGS).scrape_interval_s is None


@pytest.mark.parametrize("part", ["kinds", "longest", "up", "jobs"])
def test_rows_of_another_shape_are_not_understood(part: str) -> None:
    script = Script([{"reporter": "source"}])
    setattr(script, part, [{"metric": None, "value": "many", "values": [7]}])

    with pytest.raises(TelemetryAnswer):
        inspect(script, SETTINGS)
