"""The readings as figures, beside what Flagger costs and what ours may cost at most."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.scale.probes import Reading, quantile, total
from bench.scale.run import TICK_S, Findings

READS = {"GET", "LIST"}
WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: the key in the document, what it says, Flagger's figure at 100 canaries, and the most ours may be."""

    key: str
    what: str
    flagger: str = ""
    at_most: float | None = None
    only: int | None = None
    """The limit is for this number of rollouts only."""


FIGURES = (
    Figure("reads", "API reads per canary per tick", "15.8", 0.1),
    Figure("writes", "API writes per canary per tick, while steps change", "3 (2 PUT, 1 event)"),
    Figure("expressions", "query expressions per tick, all canaries", "200", 10),
    Figure("look_period_s", "seconds between two looks of the fast abort"),
    Figure("look_expressions", "query expressions per such look"),
    Figure("cpu_ms", "controller CPU per canary per tick, ms", "9.6", 3.0),
    Figure("controller_core", "controller, share of a core"),
    Figure("apiserver_core", "API server above idle, share of a core", "0.32", 0.02, 100),
    Figure("prometheus_core", "Prometheus above idle, share of a core"),
    Figure("query_ms", "time of a range query at Prometheus, ms"),
    Figure("requests_per_s", "API requests per second, all verbs"),
    Figure("late_p50_s", "a rollout looked at after its tile had settled, s, p50"),
    Figure("late_p99_s", "p99"),
    Figure("gap_p99_s", "lateness: a rollout's look later than 10 s after the one before, s, p99", "", 1.0),
    Figure("rss_started_mb", "RSS once all is listed, MB"),
    Figure("rss_mb", "RSS while steady, MB", "", 200.0, 2000),
    Figure("rss_most_mb", "RSS at most, MB"),
    Figure("sample_to_route_s", "first bad sample scraped to traffic off, s, worst", "69", 2.0, 100),
    Figure("decision_to_route_s", "decision to traffic off, s, worst", "", 1.0),
    Figure("outage_rolled_back", "healthy releases rolled back by a 75 s outage of Prometheus", "95 of 95", 0.0),
    Figure("begin_s", "seconds until all N releases, started at once, are under judgement"),
    Figure("begin_expressions", "query expressions to begin, per canary"),
)


def document(found: Findings, about: Mapping[str, Any]) -> dict[str, Any]:
    """All figures of one size, JSON-able, with the keys that are over their limits."""
    assert found.steady is not None
    figures = {key: value for key, value in _figures(found).items() if value is not None}
    over = [
        figure.key
        for figure in FIGURES
        if figure.at_most is not None
        and figure.only in (None, found.count)
        and figures.get(figure.key, 0.0) > figure.at_most
    ]
    return {
        **about,
        "rollouts": found.count,
        "scrapeSeconds": found.scrape_s,
        "holdSeconds": found.hold_s,
        "steadySeconds": round(found.steady[1].at - found.steady[0].at),
        "failingReleases": found.failing,
        "healthyDuringOutage": found.healthy_before,
        "judgedAgainAfterOutage": found.outage_judged_again,
        "seconds": round(found.seconds),
        "verbs": _verbs(found),
        "figures": {key: round(value, 4) for key, value in figures.items()},
        "over": over,
    }


def _figures(found: Findings) -> dict[str, float | None]:
    assert found.steady is not None
    assert found.idle is not None
    assert found.begin is not None
    before, after = found.steady
    seconds = after.at - before.at
    ticks = found.count * seconds / TICK_S
    own = _api_requests(before, after)
    looks = _delta(before.controller, after.controller, "canary_look_seconds_count")
    figures: dict[str, float | None] = {
        "reads": sum(own.get(verb, 0.0) for verb in ("get", "list")) / ticks,
        "writes": sum(own.get(verb, 0.0) for verb in ("create", "patch", "update", "delete")) / ticks,
        "expressions": _tick_expressions(before, after) * TICK_S / seconds,
        "look_period_s": seconds / looks if looks else None,
        "look_expressions": _expressions(before, after, "look") / looks if looks else None,
        "cpu_ms": 1000 * (after.cpu["controller"] - before.cpu["controller"]) / ticks,
        "controller_core": (after.cpu["controller"] - before.cpu["controller"]) / seconds,
        "apiserver_core": _core(found, "apiserver"),
        "prometheus_core": _core(found, "prometheus"),
        "query_ms": _query_ms(before, after),
        "requests_per_s": sum(_verbs(found).values()),
        "late_p50_s": quantile(before.controller, after.controller, "canary_verdict_lateness_seconds", 0.5),
        "late_p99_s": quantile(before.controller, after.controller, "canary_verdict_lateness_seconds", 0.99),
        "gap_p99_s": quantile(before.controller, after.controller, "canary_interval_lateness_seconds", 0.99),
        "rss_started_mb": found.memory["started"][0],
        "rss_mb": found.memory["steady"][0],
        "rss_most_mb": found.memory["end"][1],
        "sample_to_route_s": max((one["sample"] for one in found.aborts), default=None),
        "decision_to_route_s": max((one["decision"] for one in found.aborts), default=None),
        "outage_rolled_back": float(found.outage_rolled_back),
        "begin_s": found.begin_s,
        "begin_expressions": _expressions(*found.begin, "begin") / found.count,
    }
    if found.aborts:
        figures["sample_to_route_median_s"] = statistics.median(one["sample"] for one in found.aborts)
    return figures


def _delta(before: Any, after: Any, name: str, **labels: str) -> float:
    return total(after, name, **labels).get("", 0.0) - total(before, name, **labels).get("", 0.0)


def _expressions(before: Reading, after: Reading, purpose: str) -> float:
    return _delta(before.controller, after.controller, "canary_prometheus_expressions_total", purpose=purpose)


def _tick_expressions(before: Reading, after: Reading) -> float:
    """All but those of the fast abort and those to begin: the ticks' own, and what is asked about the source itself."""
    every = _delta(before.controller, after.controller, "canary_prometheus_queries")
    return every - sum(_expressions(before, after, purpose) for purpose in ("look", "begin"))


def _api_requests(before: Reading, after: Reading) -> dict[str, float]:
    """The controller's own requests by verb."""
    old = total(before.controller, "canary_api_requests_total", "verb")
    new = total(after.controller, "canary_api_requests_total", "verb")
    return {verb: count - old.get(verb, 0.0) for verb, count in new.items()}


def _per_second(readings: tuple[Reading, Reading]) -> dict[str, float]:
    before, after = readings
    old, new = (total(one.apiserver, "apiserver_request_total", "verb") for one in (before, after))
    return {verb: (count - old.get(verb, 0.0)) / (after.at - before.at) for verb, count in new.items()}


def _verbs(found: Findings) -> dict[str, float]:
    """Requests per second by verb, as the API server counts them, above idle."""
    assert found.steady is not None
    assert found.idle is not None
    idle = _per_second(found.idle)
    above = {verb: rate - idle.get(verb, 0.0) for verb, rate in _per_second(found.steady).items()}
    return {verb: round(rate, 3) for verb, rate in sorted(above.items()) if rate > 0.0005}


def _core(found: Findings, program: str) -> float:
    """Share of a core above idle."""
    assert found.steady is not None
    assert found.idle is not None
    used = [
        (after.cpu[program] - before.cpu[program]) / (after.at - before.at)
        for before, after in (found.idle, found.steady)
    ]
    return used[1] - used[0]


def _query_ms(before: Reading, after: Reading) -> float | None:
    name, handler = "prometheus_http_request_duration_seconds", "/api/v1/query_range"
    count = _delta(before.prometheus, after.prometheus, f"{name}_count", handler=handler)
    spent = _delta(before.prometheus, after.prometheus, f"{name}_sum", handler=handler)
    return 1000 * spent / count if count else None


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def print_table(one: Mapping[str, Any], console: Console) -> None:
    table = Table(
        title=f"{one['rollouts']} rollouts, tick 10 s, scrape {one['scrapeSeconds']:g} s, commit {one['commit']}"
    )
    for column in ("figure", "Flagger 1.44, 100 canaries", "at most", "ours"):
        table.add_column(column)
    for figure in FIGURES:
        limit = figure.at_most if figure.only in (None, one["rollouts"]) else None
        value = shown(one["figures"].get(figure.key))
        mark = "[red]" if figure.key in one["over"] else ""
        table.add_row(figure.what, figure.flagger, "" if limit is None else f"{limit:g}", f"{mark}{value}")
    console.print(table)
    verbs = ", ".join(f"{verb} {rate:g}" for verb, rate in one["verbs"].items())
    console.print(f"API requests per second above idle: {verbs}; {one['seconds']} s in all")


def page(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """All sizes side by side, as Markdown."""
    every = [documents[key] for key in sorted(documents, key=int)]
    heads = ["figure", "Flagger 1.44, 100 canaries", "at most", *(f"{one['rollouts']:,} rollouts" for one in every)]
    lines = [_row(heads), _row(["---", "---:", "---:", *["---:"] * len(every)])]
    for figure in FIGURES:
        limit = (
            "" if figure.at_most is None else f"{figure.at_most:g}" + (f" (at {figure.only:,})" if figure.only else "")
        )
        values = [
            f"**{shown(one['figures'].get(figure.key))}**"
            if figure.key in one["over"]
            else shown(one["figures"].get(figure.key))
            for one in every
        ]
        lines.append(_row([figure.what, figure.flagger, limit, *values]))
    runs = [
        f"- {one['rollouts']:,} rollouts: commit {one['commit']}; {one['machine']}; a scrape every "
        f"{one['scrapeSeconds']:g} s, each step {one['holdSeconds']:g} s or more, steady for {one['steadySeconds']} s; "
        "API requests per second above idle: "
        + ", ".join(f"{verb} {rate:g}" for verb, rate in one["verbs"].items())
        + f"; {one['healthyDuringOutage']:,} healthy releases ran when Prometheus went away; {one['seconds']} s in all."
        for one in every
    ]
    return "\n".join([_INTRODUCTION, "", *lines, "", _LEGEND, "", "## The runs", "", *runs, ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


_INTRODUCTION = """\
# What N rollouts cost

Written by `make bench-scale N=…`. A real kube-apiserver with etcd, a real Prometheus and `canary run` share one
machine; the controller may use one core. Each service has two Deployments with a ReplicaSet and a ready Pod each, a
Service, a VirtualService and a DestinationRule, of realistic size, spread over namespaces of twenty. The mesh's metrics
come from an exporter of the bench that follows the routes' weights: Istio's request counters and latency histograms
with all buckets, ejections, node exporters and istiod, so that all questions are asked. All releases but a few start
at once and then step on (where less than a step's time is measured, few or none step in it); a few fail every request
and start later, one after the other; at the end Prometheus is away for 75 s. Flagger's figures were measured on such a
machine with 100 canaries at the same interval. Over a limit: **bold**."""

_LEGEND = """\
A tick is 10 s, and so is a tile. Reads and writes are the controller's own count of its requests; requests per second
are the API server's, above idle. The fast abort looks as often as that takes three hundredths of the time, ours and
Prometheus', and at most four times a second. "Looked at after its tile had settled" is from the moment at which the
newest counts of a rollout are final (2 s after the tile's end) to the decision on them, over all rollouts and ticks."""
