"""The one sentence of a verdict: what was counted, against what, and how sure that is.

Every figure is computed from the counts given; nothing here decides. A sentence reads alone and after a prefix such as
"ROLLBACK at 10 %: ", and names the policy's fields as people write them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache

from canary.model.policy import OutlierDetection
from canary.model.units import format_duration
from canary.model.verdict import ArmCounts, Ejections, Evidence, SourceState

LARGEST_RATIO = 1_000_000


def share_text(share: float) -> str:
    """0.0534 -> "5.3 %", 0.1234 -> "12.3 %"; never rounds up to 100 or down to 0."""
    percent = share * 100
    if percent in (0, 100):
        return f"{percent:.0f} %"
    if percent > 99.9:
        return "over 99.9 %"
    if percent < 0.001:
        return "under 0.001 %"
    digits = 1 if percent >= 1 else 2 if percent >= 0.01 else 3
    return f"{percent:.{digits}f}".rstrip("0").rstrip(".") + " %"


def ratio_text(e_value: float, below: float = math.inf) -> str:
    """3912.4 -> "3,900:1": two significant digits, "over 1,000,000:1" beyond.

    `below` is a threshold named beside it: what has not reached it is not rounded up to it (199.6 -> "190:1").
    """
    if e_value > LARGEST_RATIO:
        return f"over {LARGEST_RATIO:,}:1"
    if e_value < 0.01:
        return "under 0.01:1"
    digits = 1 - math.floor(math.log10(e_value))
    rounded = round(e_value, digits)
    if e_value < below <= rounded:
        rounded = math.floor(e_value * 10.0**digits) / 10.0**digits
    return f"{rounded:,.{max(digits, 0)}f}".removesuffix(".0") + ":1"


def seconds_text(seconds: float) -> str:
    """Whole seconds, and tenths below ten."""
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f}".removesuffix(".0") + " s"


@lru_cache(maxsize=256)
def bound_text(milliseconds: float) -> str:
    """A bucket bound: "500ms", "2s500ms"."""
    return "0.5ms" if milliseconds < 1 else format_duration(timedelta(milliseconds=milliseconds))


def errors_text(arm: ArmCounts, of: str) -> str:
    """ "7 errors (5.3 %) in 131 canary requests"."""
    if not arm.requests:
        return f"no {of} request"
    noun = "error" if arm.errors == 1 else "errors"
    requests = "request" if arm.requests == 1 else "requests"
    return f"{arm.errors:,} {noun} ({share_text(arm.error_share)}) in {arm.requests:,} {of} {requests}"


def out_of(bad: int, total: int) -> str:
    """ "1 of 1,180 (0.08 %)"."""
    return f"{bad:,} of {total:,} ({share_text(bad / total)})" if total else "without requests"


def stable_text(bad: int, total: int) -> str:
    return f"stable {out_of(bad, total)}" if total else "no stable request to compare with"


def p99_text(arm: ArmCounts, limit_ms: float) -> str:
    """Where the buckets place P99: "3 of 412 slower than 500ms (0.7 %), P99 at most 250ms"."""
    if not arm.timed:
        return "no latency measured"
    within = [bound for bound, slower in arm.slower.items() if slower <= 0.01 * arm.timed]
    beyond = [bound for bound, slower in arm.slower.items() if slower > 0.01 * arm.timed]
    place = f"P99 at most {bound_text(min(within))}" if within else f"P99 over {bound_text(max(beyond))}"
    slower = arm.slower.get(limit_ms, 0)
    return f"{slower:,} of {arm.timed:,} slower than {bound_text(limit_ms)} ({share_text(slower / arm.timed)}), {place}"


def fast_abort(thresholds: OutlierDetection, canary: ArmCounts, stable: ArmCounts) -> str:
    return (
        f"{canary.errors:,} of {canary.requests:,} canary requests ({share_text(canary.error_share)}) failed within "
        f"{format_duration(thresholds.interval)}, a near-total failure (at least "
        f"{thresholds.consecutive5xx_errors} errors and half of the requests); "
        f"{stable_text(stable.errors, stable.requests)}."
    )


def ejected(ejections: Ejections, canary: ArmCounts, stable: ArmCounts) -> str:
    of_stable = f" {ejections.stable_members:,}" if ejections.stable_members else ""
    return (
        f"Envoy has ejected {ejections.canary:,} of {max(ejections.canary_members, ejections.canary):,} canary hosts "
        f"(outlierDetection) and none of stable's{of_stable}; {errors_text(canary, 'canary')}; "
        f"{stable_text(stable.errors, stable.requests)}."
    )


def _weighed(numbers: Evidence) -> str:
    return f"with evidence {ratio_text(numbers.e_value)} (limit {ratio_text(numbers.limit)})"


def breach(numbers: Evidence, limit_ms: float | None, this_step: tuple[int, int]) -> str:
    """A limit that the canary broke; `this_step` is (requests, bad ones) of the current step."""
    where = f" (in this step {out_of(this_step[1], this_step[0])})" if this_step[0] != numbers.canary_total else ""
    share = share_text(numbers.canary_bad / numbers.canary_total)
    if limit_ms is None:
        noun = "error" if numbers.canary_bad == 1 else "errors"
        what = (
            f"{numbers.canary_bad:,} {noun} ({share}) in {numbers.canary_total:,} canary requests{where}, over "
            f"the limit of {share_text(numbers.bound)} {_weighed(numbers)}"
        )
    else:
        what = (
            f"{numbers.canary_bad:,} of {numbers.canary_total:,} canary requests ({share}) took longer than "
            f"{bound_text(limit_ms)}{where}, so P99 is over that limit {_weighed(numbers)}"
        )
    return f"{what}; {stable_text(numbers.stable_bad, numbers.stable_total)}"


def incident(minute: Evidence, limit_ms: float | None) -> str:
    """Both arms over the same limit."""
    bad = "errors" if limit_ms is None else f"slower than {bound_text(limit_ms)}"
    return (
        f"an incident of the whole service: {bad} over the limit of {share_text(minute.bound)} in both versions within "
        f"the last minute, canary {out_of(minute.canary_bad, minute.canary_total)}, stable "
        f"{out_of(minute.stable_bad, minute.stable_total)}; not held against the canary."
    )


def undecided(numbers: Evidence, limit_ms: float | None, this_step: tuple[int, int], passes_below: float) -> str:
    """Not failed, but over the limit in this step or too close to failing; `this_step` as in `breach`."""
    where = f" (in this step {out_of(this_step[1], this_step[0])})" if this_step[0] != numbers.canary_total else ""
    bad = "errors, limit" if limit_ms is None else f"slower than {bound_text(limit_ms)}, P99 allows"
    unreached = passes_below if numbers.e_value < passes_below else numbers.limit
    return (
        f"undecided: canary {out_of(numbers.canary_bad, numbers.canary_total)}{where} {bad} "
        f"{share_text(numbers.bound)}, evidence {ratio_text(numbers.e_value, unreached)} (a step passes within its "
        f"limit and below {ratio_text(passes_below)}, fails at {ratio_text(numbers.limit)}); "
        f"{stable_text(numbers.stable_bad, numbers.stable_total)}."
    )


def too_few(how_many: str, rule: str, canary: ArmCounts, stable: ArmCounts) -> str:
    """`how_many` reads "12 of the 50 canary requests"; `rule` is the policy's field that asks for them."""
    return (
        f"{how_many} that this step needs ({rule}); {errors_text(canary, 'canary')}; "
        f"{stable_text(stable.errors, stable.requests)}."
    )


def nobody_came(stable: ArmCounts) -> str:
    """The header stage goes on without a single debug request, and says so."""
    return (
        "nobody tried the canary: no request with the debug header reached it in this stage, and none is asked for "
        f"(match.minRequests); {stable_text(stable.errors, stable.requests)}."
    )


def healthy(
    canary: ArmCounts, stable: ArmCounts, *, max_errors: float | None, p99_ms: float | None, remarks: Iterable[str] = ()
) -> str:
    """The counts of this step, each beside its limit, and what else there is to say."""
    parts = [errors_text(canary, "canary") + ("" if max_errors is None else f", limit {share_text(max_errors)}")]
    if p99_ms is not None:
        parts.append(f"{p99_text(canary, p99_ms)}, limit {bound_text(p99_ms)}")
    parts.append(stable_text(stable.errors, stable.requests))
    return "; ".join([*parts, *remarks]) + "."


def unavailable(source: SourceState) -> str:
    why = f": {source.detail}" if source.detail else ""
    return f"the metrics source does not answer{why}; nothing is judged until it does."


def stale(age_s: float, fresh_within_s: float) -> str:
    if age_s < 0:
        return (
            f"the newest judged figures are {seconds_text(-age_s)} ahead of the controller's clock: its clock and the "
            "metrics source's differ."
        )
    return (
        f"the newest judged figures are {seconds_text(age_s)} old, and only those of the last "
        f"{seconds_text(fresh_within_s)} count as fresh."
    )


def no_series() -> str:
    return "the metrics source has no series of this service: it does not scrape the mesh, or the service is not in it."


def no_window() -> str:
    return "no settled window of this step yet; the first counts follow a weight by a few seconds."


def no_traffic(span_s: float) -> str:
    return f"the service is idle: no request to either version in the last {seconds_text(span_s)}."


def no_header_traffic(need: int, stable: ArmCounts) -> str:
    return (
        f"no request with the debug header has reached the canary, {need:,} are asked for (match.minRequests); "
        f"{stable_text(stable.errors, stable.requests)}."
    )


def no_canary_traffic(expected: float, weight: int, stable: int) -> str:
    return (
        f"a routing fault: no request reached the canary, about {expected:,.0f} were expected at {weight} %; "
        f"stable had {stable:,} in this step."
    )


def warming_up(left_s: float, canary: ArmCounts) -> str:
    left = f"about {seconds_text(left_s)} left" if left_s > 0 else "almost over"
    return f"warming up, {left}; {errors_text(canary, 'canary')} so far are not judged."
