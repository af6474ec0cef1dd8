"""What the metrics source is, found by asking it: who reports, how often it is scraped, and what it cannot tell.

Facts only. Whether they suffice for a rollout is the caller's decision.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from canary.errors import TelemetryAnswer
from canary.telemetry.controlplane import CONVERGENCE, REJECTS, control_plane_matcher
from canary.telemetry.outliers import EJECTED, MEMBERS
from canary.telemetry.queries import LATENCY, LOOK_BACK, REQUESTS, TARGET_NAMESPACE, one_of
from canary.telemetry.settings import REPORTERS, SourceSettings
from canary.telemetry.steal import CPU, NODE_INFO

REPLICA_LABELS = ("prometheus_replica", "__replica__", "replica", "prometheus", "receive_replica")
"""Labels by which the members of a redundant pair are told apart; two values of one are two counts of each request."""

SHORTEST_SETTLE_S = 2.0

Ask = Callable[[str], list[Any]]
"""PromQL to the rows of an instant answer."""


@dataclass(frozen=True)
class SourceFacts:
    """What was found. `scrape_interval_s` is the longest among the jobs that expose the request counter, None until
    one is known; `longest_scrape_s` the longest scrape of their targets in the look-back. `up_joined` is false when
    `up` does not cover every target. `problems` are sentences for people, worst first.
    """

    scrape_interval_s: float | None
    longest_scrape_s: float
    reporter: str
    up_joined: bool
    problems: tuple[str, ...] = ()
    has_requests: bool = True
    """Whether the request counter exists at all. Before the first request of the mesh it does not."""
    has_ejections: bool = False
    """Whether callers' proxies export which hosts Envoy has ejected."""
    has_steal: bool = False
    """Whether node exporters tell the CPU time that was stolen."""
    has_control_plane: bool = False
    """Whether istiod is scraped."""
    blocking: str = ""
    """The problem that makes counting wrong or impossible, "" when there is none: no rollout should start on it."""

    @property
    def settle_s(self) -> float:
        """Age in seconds from which a tile is final: a sample carries the time at which its scrape began."""
        return max(SHORTEST_SETTLE_S, 2 * self.longest_scrape_s)


def inspect(ask: Ask, settings: SourceSettings) -> SourceFacts:
    """Ask the source about itself. Raises TelemetryUnavailable and TelemetryAnswer as any query does."""
    kinds = _labels(
        ask(
            f"count by (reporter, {TARGET_NAMESPACE}, {', '.join(REPLICA_LABELS)}) "
            f"(last_over_time({REQUESTS}[{LOOK_BACK}]))"
        )
    )
    reporters = {labels.get("reporter", "") for labels in kinds}
    reporter = settings.reporter
    if reporter == "auto":
        reporter = next((known for known in REPORTERS if known in reporters), REPORTERS[0])
    if not kinds:
        missing = (
            f"Prometheus at {settings.base_url} has no {REQUESTS}: it does not scrape Istio's proxies, or there was no "
            "request yet"
        )
        return SourceFacts(
            None, 0.0, reporter, up_joined=True, problems=(missing,), has_requests=False, blocking=missing
        )

    problems = [*_reporter_problems(reporter, reporters, kinds, settings), *_replica_problems(kinds)]
    blocking = problems[0] if problems else ""
    targets = f"count by (job, instance) ({REQUESTS}{{reporter=~{one_of([reporter])}}})"
    if not ask(f'count({LATENCY}{{le="+Inf"}})'):
        problems.append(f"no {LATENCY}: latency cannot be judged")

    up_joined = not ask(f"{targets} unless on (job, instance) up")
    if not up_joined:
        problems.append(
            "degraded: the first errors of a new series are missed, because some targets of "
            f"{REQUESTS} have no `up` (federation, OTLP or remote write without it)"
        )
    exported = _exported(ask, settings)
    problems += [sentence for name, sentence in _DEGRADED.items() if not exported[name]]
    scrapes = _numbers(
        ask(f"max(max_over_time(scrape_duration_seconds[{LOOK_BACK}]) and on (job, instance) {targets})")
    )
    return SourceFacts(
        _scrape_interval_s(ask, targets),
        max(scrapes, default=0.0),
        reporter,
        up_joined,
        tuple(problems),
        blocking=blocking,
        **exported,
    )


def _reporter_problems(
    reporter: str, reporters: set[str], kinds: Sequence[Mapping[str, str]], settings: SourceSettings
) -> list[str]:
    if reporter not in reporters:
        found = ", ".join(sorted(reporters - {""})) or "none"
        return [f'no {REQUESTS}{{reporter="{reporter}"}}: nothing can be counted (reporters found: {found})']
    spaces = {labels.get(TARGET_NAMESPACE, "") for labels in kinds if labels.get("reporter") == reporter}
    if reporter == "destination" and spaces == {""}:
        return [f"no target has the label `{TARGET_NAMESPACE}`, so no proxy can be believed about its own workload"]
    if reporter != "destination" and settings.trusted_namespaces and not spaces & settings.trusted_namespaces:
        trusted = ", ".join(sorted(settings.trusted_namespaces))
        return [f"no target in a trusted namespace ({trusted}) reports {REQUESTS}: nothing can be counted"]
    return []


def _exported(ask: Ask, settings: SourceSettings) -> dict[str, bool]:
    """What else is read where it is exported: without it rollouts run, and know less."""
    istiod = control_plane_matcher(settings.control_plane_namespace)
    return {
        "has_ejections": bool(ask(f"count({EJECTED} and on (job, instance) {MEMBERS})")),
        "has_steal": bool(ask(f'count({CPU}{{mode="steal"}} and on (job, instance) {NODE_INFO})')),
        "has_control_plane": bool(ask(f"count({CONVERGENCE}_count{{{istiod}}} or {REJECTS}{{{istiod}}})")),
    }


_DEGRADED = {
    "has_ejections": f"degraded: no {EJECTED} with {MEMBERS}, so hosts that Envoy ejects are not seen: no "
    "DestinationRule has outlierDetection, or the callers' proxies do not export it (proxyStatsMatcher)",
    "has_steal": f"degraded: no node exporter ({CPU} with {NODE_INFO}), so latency from stolen CPU time is taken for "
    "the canary's",
}


def _replica_problems(kinds: Sequence[Mapping[str, str]]) -> list[str]:
    problems = []
    for label in REPLICA_LABELS:
        values = {kind[label] for kind in kinds if kind.get(label)}
        if len(values) > 1:
            problems.append(
                f"each request is counted {len(values)} times: {REQUESTS} comes from redundant servers that differ in "
                f"`{label}`; ask the endpoint that deduplicates them"
            )
    return problems


def _scrape_interval_s(ask: Ask, targets: str) -> float | None:
    """From the times of `up`, which has a sample for each scrape, failed ones included; one target per job."""
    jobs = _labels(ask(f"topk by (job) (1, {targets} and on (job, instance) up)"))
    if not jobs:
        return None
    chosen = {(labels.get("job", ""), labels.get("instance", "")) for labels in jobs}
    names, instances = one_of(job for job, _ in chosen), one_of(instance for _, instance in chosen)
    steps: dict[str, list[float]] = defaultdict(list)
    for row in ask(f"up{{job=~{names}, instance=~{instances}}}[{LOOK_BACK}]"):
        times = _times(row)
        steps[row["metric"].get("job", "")] += [after - before for before, after in pairwise(times)]
    intervals = [statistics.median(found) for found in steps.values() if found]
    return round(max(intervals), 3) if intervals else None


def _labels(rows: Sequence[Any]) -> list[dict[str, str]]:
    if not all(isinstance(row, dict) and isinstance(row.get("metric"), dict) for row in rows):
        raise TelemetryAnswer("Prometheus answered rows without labels to the preflight")
    return [row["metric"] for row in rows]


def _numbers(rows: Sequence[Any]) -> list[float]:
    try:
        return [float(row["value"][1]) for row in rows]
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise TelemetryAnswer("Prometheus answered something else than numbers to the preflight") from error


def _times(row: Any) -> list[float]:
    try:
        return [float(time_s) for time_s, _ in row["values"]]
    except (TypeError, KeyError, ValueError) as error:
        raise TelemetryAnswer("Prometheus answered something else than samples to the preflight") from error
