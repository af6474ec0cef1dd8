"""The daemon's own Prometheus metrics. Names and meanings are listed in docs/metrics.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Metrics:
    """One registry per daemon, so that tests may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reg = self.registry
        self.decisions = Counter(
            "canary_decisions", "Decisions that changed or said something", ["phase"], registry=reg
        )
        self.decided_again = Counter(
            "canary_decided_again", "Decisions taken again because an object had changed", registry=reg
        )
        self.reconcile_errors = Counter(
            "canary_reconcile_errors", "Looks at a service that ended in an error", ["reason"], registry=reg
        )
        self.reconcile_seconds = Histogram(
            "canary_reconcile_seconds", "Duration of one look at a service", registry=reg
        )
        self.api_requests = Counter(
            "canary_api_requests", "Requests to the Kubernetes API", ["verb", "resource", "status"], registry=reg
        )
        self.api_seconds = Histogram(
            "canary_api_request_seconds", "Duration of Kubernetes API requests", ["verb"], registry=reg
        )
        self.tick_seconds = Histogram("canary_tick_seconds", "Duration of one tick's queries", registry=reg)
        self.tick_lateness = Gauge("canary_tick_lateness_seconds", "How late the last tick began", registry=reg)
        self.tiles = Counter("canary_tiles", "Settled tiles, by what became of them", ["use"], registry=reg)
        self.evidence_age = Histogram(
            "canary_evidence_age_seconds",
            "From the end of a tile to its being judged",
            buckets=(1, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 30, 60, 300),
            registry=reg,
        )
        lateness = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 30)
        self.verdict_lateness = Histogram(
            "canary_verdict_lateness_seconds",
            "From the settling of a rollout's newest tile to the look that decided by it",
            buckets=lateness,
            registry=reg,
        )
        self.interval_lateness = Histogram(
            "canary_interval_lateness_seconds",
            "How much more than a tick lay between two such looks at a rollout",
            buckets=lateness,
            registry=reg,
        )
        self.expressions = Counter(
            "canary_prometheus_expressions",
            "Query expressions sent to Prometheus: for a tick, a look for disasters, the beginning of a rollout",
            ["purpose"],
            registry=reg,
        )
        self.look_seconds = Histogram(
            "canary_look_seconds",
            "Duration of one look for disasters",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=reg,
        )
        self.abort_period = Gauge("canary_abort_period_seconds", "Time between two looks for disasters", registry=reg)
        self.fast_aborts = Counter("canary_fast_aborts", "Rollouts that a look for disasters ended", registry=reg)
        self.source_failures = Counter("canary_source_failures", "Failed looks at the metrics source", registry=reg)
        self.left_out = Counter(
            "canary_left_out", "Questions about a window's surroundings that failed", ["what"], registry=reg
        )
        self.baseline_failures = Counter(
            "canary_baseline_failures", "Failed attempts at reading stable's past", registry=reg
        )
        self.losses = Counter(
            "canary_evidence_losses", "Rollouts whose earlier figures were gone after a restart", registry=reg
        )
        self.missed_jobs = Counter(
            "canary_scheduler_missed", "Runs the scheduler dropped", ["job", "why"], registry=reg
        )
        self.record_saves = Counter("canary_record_saves", "Evidence records written", registry=reg)
        self.record_failures = Counter(
            "canary_record_failures", "Evidence records that could not be written", ["reason"], registry=reg
        )

    def count_request(self, verb: str, plural: str, status: int, seconds: float) -> None:
        """Hook for the gateway."""
        self.api_requests.labels(verb=verb, resource=plural, status=str(status)).inc()
        if verb != "watch":
            self.api_seconds.labels(verb=verb).observe(seconds)

    def gauge(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        Gauge(name, help_, registry=self.registry).set_function(read)

    def rights_missing(self, missing: Callable[[], Iterable[tuple[str, str, str]]]) -> None:
        """`canary_rights_missing{verb,resource,namespace}`, 1 for each (verb, resource, namespace) when scraped."""

        class Missing(Collector):
            def collect(self) -> Iterable[Metric]:
                labels = ["verb", "resource", "namespace"]
                family = GaugeMetricFamily("canary_rights_missing", "Rights that the controller lacks", labels=labels)
                for right in missing():
                    family.add_metric(list(right), 1)
                yield family

        self.registry.register(Missing())

    def slot_takes(self, count: Callable[[], dict[str, int]]) -> None:
        """`canary_slot_takes_total{was}`, read when it is scraped."""

        class Takes(Collector):
            def collect(self) -> Iterable[Metric]:
                family = CounterMetricFamily("canary_slot_takes", "Slots taken, by what they were", labels=["was"])
                for was, number in count().items():
                    family.add_metric([was], number)
                yield family

        self.registry.register(Takes())

    def rollouts_by_phase(self, count: Callable[[], dict[str, int]]) -> None:
        """`canary_rollouts{phase}`, counted when it is scraped."""

        class Phases(Collector):
            def collect(self) -> Iterable[Metric]:
                family = GaugeMetricFamily("canary_rollouts", "CanaryRollouts by phase", labels=["phase"])
                for phase, number in count().items():
                    family.add_metric([phase], number)
                yield family

        self.registry.register(Phases())
