"""The PromQL, as text.

Time is tiled exactly: what a tile counted is the plain difference of the counters at its two ends, so tiles sum to the
counters' own difference; `rate` and `increase` extrapolate and lose the first value of a new series. No name ever
reaches a query unquoted or as a pattern.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

REQUESTS = "istio_requests_total"
LATENCY = "istio_request_duration_milliseconds_bucket"

NAMESPACE_LABEL = "destination_workload_namespace"
TARGET_NAMESPACE = "namespace"
"""Set on the scraped target by service discovery, where a pod's own metrics cannot forge it."""
CODE, GRPC_STATUS, BOUND = "response_code", "grpc_response_status", "le"
NEWEST = "canary_newest_sample"
"""Marks the rows that carry the time of a workload's newest sample instead of a count."""

OPENING = "canary_opening"
"""Marks the rows that carry the time of the scrape that a tile counts from."""

LOOK_BACK = "5m"
"""How long a counter is remembered when a scrape failed or came without it. As long as Prometheus' own look-back."""

_RE2_ESCAPES = str.maketrans({char: f"\\{char}" for char in r"\.+*?()|[]{}^$"})


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """One version: the value of the arm label (a Deployment's name) in the namespace of the called pods."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ServiceName:
    """A Kubernetes Service, whichever version answers for it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class SubsetName:
    """One version as callers' proxies know it: a subset of a Service's DestinationRule, "" for the whole Service."""

    namespace: str
    service: str
    subset: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service} subset {self.subset!r}"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which series a query reads: of these workloads, counted by one reporter, by targets that are believed."""

    workloads: frozenset[Workload]
    reporter: str
    arm_label: str = "destination_workload"
    trusted_namespaces: frozenset[str] = frozenset()

    @property
    def matches_target_namespace(self) -> bool:
        """A called pod's own proxy is believed about its own namespace only."""
        return self.reporter == "destination"

    @property
    def workload_labels(self) -> tuple[str, ...]:
        labels = (NAMESPACE_LABEL, self.arm_label)
        return (*labels, TARGET_NAMESPACE) if self.matches_target_namespace else labels

    def selector(self, metric: str, *matchers: str) -> str:
        namespaces = {workload.namespace for workload in self.workloads}
        targets = namespaces if self.matches_target_namespace else self.trusted_namespaces
        parts = [
            f"reporter={quoted(self.reporter)}",
            f"{NAMESPACE_LABEL}=~{one_of(namespaces)}",
            f"{self.arm_label}=~{one_of(workload.name for workload in self.workloads)}",
            *([f"{TARGET_NAMESPACE}=~{one_of(targets)}"] if targets else []),
            *matchers,
        ]
        return f"{metric}{{{', '.join(parts)}}}"


def quoted(text: str) -> str:
    """A PromQL string that is exactly `text`."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        escaped = "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in escaped)
    return f'"{escaped}"'


def literal(text: str) -> str:
    """An RE2 expression that matches `text` only."""
    return text.translate(_RE2_ESCAPES)


def one_of(texts: Iterable[str]) -> str:
    """A PromQL string with an RE2 expression that matches any of `texts`, and nothing else."""
    return quoted("|".join(literal(text) for text in sorted(set(texts))))


def milliseconds(seconds: float) -> str:
    """A PromQL duration; Prometheus' clock is whole milliseconds."""
    return f"{round(seconds * 1000)}ms"


def last(series: str, offset_s: float = 0.0, look_back: str = LOOK_BACK) -> str:
    """The newest sample of each series, remembered for `look_back`, as of `offset_s` seconds before."""
    offset = f" offset {milliseconds(offset_s)}" if offset_s else ""
    return f"last_over_time({series}[{look_back}]{offset})"


def counted(series: str, window_s: float) -> str:
    """What the counters `series` (a selector) counted in the `window_s` seconds before each evaluation, per series.

    Three cases of a series: the plain difference; a reset (fell below half: less is a step back of a deduplicated
    pair of Prometheuses), where what was counted since is all there is; a new series, which starts from 0 when its
    target was scraped well before, and is a lifetime total of unknown age otherwise.
    """
    now, before = last(series), last(series, window_s)
    return f"""\
    (({now} - {before}) >= 0)
  or ({now} < {before} / 2)
  or (({now} unless {before}) and on (job, instance) {_was_up(window_s)})"""


def status_query(scope: Scope, window_s: float, *, with_newest: bool) -> str:
    """Requests of the `window_s` seconds before each evaluation, by workload, response code and gRPC status.

    `with_newest` adds, per workload, the Unix time of the newest sample, marked by the label `NEWEST`: a counter that
    stands still and one that is not scraped any more look the same otherwise.
    """
    series = scope.selector(REQUESTS)
    labels = ", ".join((*scope.workload_labels, CODE, GRPC_STATUS))
    counts = f"sum by ({labels}) (\n{counted(series, window_s)}\n)"
    if not with_newest:
        return counts
    newest = f"max by ({', '.join(scope.workload_labels)}) (timestamp({series}))"
    return f'{counts}\nor label_replace({newest}, "{NEWEST}", "1", "", "")'


def failing_query(scope: Scope, window_s: float, grpc_statuses: Iterable[int]) -> str:
    """The workloads that may have failed requests in what `status_query` counts: 5xx, and these gRPC statuses.

    Who has some is always among them; so is whose counters of failures are new, or were reset. It counts nothing, for
    it is asked several times a second of everybody.
    """
    failed = [scope.selector(REQUESTS, f'{CODE}=~"5.."')]
    if numbers := [str(number) for number in grpc_statuses]:
        failed.append(scope.selector(REQUESTS, f'{CODE}!~"0|5.."', f"{GRPC_STATUS}=~{one_of(numbers)}"))
    moved = "\n  or ".join(f"({last(series)} unless ({last(series)} == {last(series, window_s)}))" for series in failed)
    return f"count by ({', '.join(scope.workload_labels)}) (\n  {moved}\n)"


def opening_query(scope: Scope, window_s: float) -> str:
    """When the earliest scrape was (Unix seconds) that the window's counts begin at, by workload, marked by `OPENING`.

    A series counts from its target's last scrape before the window. 0 stands for one that is not known: a series that
    was away at the window's start (a failed scrape) counts from an earlier scrape. Series without a sample in the
    window count nothing, and new ones of a target that was not up are not counted; neither is asked.
    """
    series = scope.selector(REQUESTS)
    offset = milliseconds(window_s)
    sampled, before = f"last_over_time({series}[{offset}])", last(series, window_s)
    up = f"up offset {offset}"
    opened = f"""\
min by ({", ".join(scope.workload_labels)}) (
    (timestamp({series} offset {offset}) and {sampled})
  or (0 * ({sampled} and {before}))
  or (0 * ({sampled} unless {before}) + on (job, instance) group_left () (timestamp({up}) and ({up} == 1)))
)"""
    return f'label_replace({opened}, "{OPENING}", "1", "", "")'


def latency_query(scope: Scope, window_s: float, bounds_ms: Collection[float] | None) -> str:
    """Requests without 5xx of the window, cumulative by bucket: the bounds asked for (milliseconds) and +Inf, or all.

    The tiling of `counted`, except that a histogram's own count (+Inf) decides for all its buckets whether it was
    reset or is new: one bucket may pass its old value within the tile while another has not, and the difference would
    be requests that were never slow.
    """
    succeeded = f'{CODE}!~"5.."'
    own_count = scope.selector(LATENCY, succeeded, 'le="+Inf"')
    total, total_before = last(own_count), last(own_count, window_s)
    now, before = (_buckets(scope, succeeded, bounds_ms, offset_s) for offset_s in (0.0, window_s))
    return f"""\
sum by ({", ".join((*scope.workload_labels, BOUND))}) (
    (clamp_min({now} - {before}, 0) and ignoring (le) ({total} >= {total_before}))
  or ({now} and ignoring (le) (
      ({total} < {total_before} / 2)
    or (({total} unless {total_before}) and on (job, instance) {_was_up(window_s)})
  ))
)"""


def bound_forms(bound_ms: float) -> tuple[str, str]:
    """A bucket bound as the proxies write it, and as Prometheus 3 stores it (OpenMetrics' canonical float)."""
    plain = f"{bound_ms:.15g}"
    if bound_ms < 1e6:
        return plain, repr(float(bound_ms))
    mantissa, exponent = f"{bound_ms:.15e}".split("e")  # where Go's shortest form turns to an exponent
    return plain, f"{float(mantissa):g}e+{int(exponent):02d}"


def _buckets(scope: Scope, succeeded: str, bounds_ms: Collection[float] | None, offset_s: float) -> str:
    """The buckets under one name per bound: Prometheus 3's "500.0" first, as "500", then what was stored as "500".

    So a Prometheus upgraded inside the window neither counts a lifetime nor makes every request look slow.
    """
    plain, canonical = _bound_matchers(bounds_ms)
    as_stored = last(scope.selector(LATENCY, succeeded, plain), offset_s)
    if not canonical:
        return as_stored
    renamed = last(scope.selector(LATENCY, succeeded, canonical), offset_s)
    return f'(label_replace({renamed}, "le", "$1", "le", "(.+)[.]0") or {as_stored})'


def _bound_matchers(bounds_ms: Collection[float] | None) -> tuple[str, str]:
    """The buckets to take as they are, and those whose name ends in ".0" ("" for none); None asks for every bound."""
    if bounds_ms is None:
        return 'le!~".+[.]0"', 'le=~".+[.]0"'
    forms = {form for bound in bounds_ms for form in bound_forms(bound)}
    canonical = {form for form in forms if form.endswith(".0")}
    return f"le=~{one_of((forms - canonical) | {'+Inf'})}", f"le=~{one_of(canonical)}" if canonical else ""


def _was_up(window_s: float) -> str:
    return f"(up offset {milliseconds(window_s)} == 1)"
