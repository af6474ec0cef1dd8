"""The figures that are read off the running parts when `/metrics` is scraped."""

from __future__ import annotations

from collections import Counter

from canary.cluster.events import EventRecorder
from canary.cluster.queue import KeyedQueue
from canary.cluster.replica import Replica
from canary.daemon.caches import Caches
from canary.daemon.keys import Key
from canary.daemon.metrics import Metrics
from canary.daemon.policies import PolicyFolder
from canary.daemon.sourcewatch import SourceWatch
from canary.telemetry.source import PrometheusSource


def read_when_scraped(
    metrics: Metrics,
    *,
    work: KeyedQueue[Key],
    prometheus: PrometheusSource,
    source: SourceWatch,
    replica: Replica,
    events: EventRecorder,
    folder: PolicyFolder,
    caches: Caches,
) -> None:
    """Put them into the registry. Names and meanings are listed in docs/metrics.md."""
    gauge = metrics.gauge
    gauge("canary_queue_depth", "Services waiting for a look", lambda: work.depth)
    gauge("canary_queue_oldest_seconds", "How long the oldest has waited", lambda: work.oldest_seconds)
    gauge(
        "canary_prometheus_queries", "HTTP queries sent to Prometheus since the start", lambda: prometheus.queries_sent
    )
    gauge("canary_source_available", "1 while the metrics source answers", lambda: float(source.is_available))
    gauge("canary_member_valid", "1 while this replica renews its Lease in time", lambda: float(replica.lease.is_held))
    gauge("canary_slots_owned", "Slots of namespaces that this replica drives", lambda: len(replica.owned))
    gauge("canary_slots_without_owner", "Slots that nobody living holds, as seen from here",
          lambda: len(replica.ownership.without_owner))  # fmt: skip
    metrics.slot_takes(lambda: dict(replica.turnover.takes))
    gauge("canary_events_dropped", "Kubernetes Events dropped since the start", lambda: events.dropped)
    gauge("canary_policy_errors", "Mistakes in the policy folder now", lambda: len(folder.errors))
    gauge(
        "canary_watch_staleness_seconds",
        "Age of the oldest local copy",
        lambda: max(reflector.staleness_seconds for reflector in caches.reflectors.values()),
    )
    metrics.rollouts_by_phase(
        lambda: dict(
            Counter(
                entry.rollout.status.phase.value
                for entry in caches.rollouts(None)
                if replica.owns(entry.rollout.namespace)
            )
        )
    )
