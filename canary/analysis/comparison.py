"""The words of a comparison: canary against stable, against what was tolerated, against the policy's own metrics.

Every figure is computed from the numbers given; nothing here decides. Texts without a full stop are parts of a
verdict's sentence, the others whole ones.
"""

from __future__ import annotations

from datetime import timedelta

from canary.analysis.baseline import HISTORY_S
from canary.analysis.sentence import bound_text, out_of, ratio_text, share_text, stable_text
from canary.model.objectives import CustomMetric, Tolerance
from canary.model.units import format_duration
from canary.model.verdict import Evidence


def tolerance_text(tolerance: Tolerance) -> str:
    """ "1.2x + 0.05 %"."""
    return f"{tolerance.ratio:g}x + {share_text(tolerance.slack)}"


def _weighed(numbers: Evidence) -> str:
    return f"{ratio_text(numbers.e_value)} (limit {ratio_text(numbers.limit)})"


def _counts(numbers: Evidence, bound_ms: float | None) -> str:
    """ "7 errors (5.3 %) in 131 canary requests against stable 1 of 1,180 (0.08 %)"."""
    bad, total = numbers.canary_bad, numbers.canary_total
    against = f"against stable {out_of(numbers.stable_bad, numbers.stable_total)}"
    if not total:
        return f"no canary request yet {against}"
    if bound_ms is not None:
        share = share_text(bad / total)
        return f"{bad:,} of {total:,} canary requests ({share}) took longer than {bound_text(bound_ms)} {against}"
    noun = "error" if bad == 1 else "errors"
    return f"{bad:,} {noun} ({share_text(bad / total)}) in {total:,} canary requests {against}"


def worse_than_stable(worse: Evidence, beyond: Evidence, tolerance: Tolerance, history_s: float) -> str:
    """Both questions answered yes. `history_s` says how long stable was watched before (seconds)."""
    short = ""
    if history_s < HISTORY_S - 30:
        known = format_duration(timedelta(seconds=round(history_s))) if history_s else "nothing"
        short = f"; of stable's past only {known} was known, so bursts may count for too much"
    return (
        f"{_counts(worse, None)}; worse than stable with evidence {_weighed(worse)} and worse than the tolerated "
        f"{tolerance_text(tolerance)} with {_weighed(beyond)}{short}"
    )


def slower_than_stable(numbers: Evidence, bound_ms: float, tolerance: Tolerance) -> str:
    return (
        f"{_counts(numbers, bound_ms)}; slower than the tolerated {tolerance_text(tolerance)} with evidence "
        f"{_weighed(numbers)}"
    )


def perhaps_worse(numbers: Evidence, bound_ms: float | None, passes_below: float) -> str:
    """Not failed, but too close to it for a step to end; `bound_ms` None for errors."""
    what = "worse" if bound_ms is None else "slower"
    return (
        f"undecided: {_counts(numbers, bound_ms)}; {what} than stable with evidence {ratio_text(numbers.e_value)} (a "
        f"step passes below {ratio_text(passes_below)}, fails at {ratio_text(numbers.limit)})."
    )


def not_yet_healthy(numbers: Evidence, more: int | None) -> str:
    """Nothing is wrong, and too little was seen to say that all is well."""
    if more is None:
        rest = "its errors are not clearly below twice stable's + 1 %"
    else:
        rest = f"about {max(more, 1):,} more canary requests like these"
    return (
        f"not proven yet: {_counts(numbers, None)}; evidence of health {ratio_text(numbers.e_value)} of the "
        f"{ratio_text(numbers.limit)} that a step needs, {rest}."
    )


def healthy_enough(numbers: Evidence) -> str:
    return f"evidence of health {ratio_text(numbers.e_value)} (needs {ratio_text(numbers.limit)})"


def harm_done(numbers: Evidence, harm: float, budget: float, needs: float) -> str:
    return (
        f"the canary cost {harm:,.0f} more errors than stable's rate explains, over the harm budget of {budget:,.0f}: "
        f"{_counts(numbers, None)}; worse than stable with evidence {ratio_text(numbers.e_value)} ({ratio_text(needs)} "
        "is enough for the budget)"
    )


def unattributed(numbers: Evidence) -> str:
    """Requests of the service, under `canary`, that reached no version."""
    return (
        f"{out_of(numbers.canary_bad, numbers.canary_total)} of the service's requests found no host of any version "
        f"(UH, NC, UO), over the {share_text(numbers.bound)} of before with evidence {_weighed(numbers)}"
    )


def worse_than_frozen(numbers: Evidence) -> str:
    return (
        f"{out_of(numbers.canary_bad, numbers.canary_total)} failed at 100 %, over the {share_text(numbers.bound)} "
        f"that the policy tolerates over what stable was, with evidence {_weighed(numbers)}; "
        f"{stable_text(numbers.stable_bad, numbers.stable_total)} while it had traffic"
    )


def own_metric(metric: CustomMetric, value: float, over: int, seen: int) -> str:
    return (
        f"{metric.name} is {value:g}, over its limit of {metric.max:g} in {over} of the last {seen} tiles "
        f"({metric.breaches} of {metric.of} are enough; the policy's own metric, without a bound on false rollbacks)"
    )


def own_metric_silent(metric: CustomMetric, seen: int) -> str:
    tiles = "no tile was seen yet" if not seen else f"no value in the last {seen} tiles"
    return f"the policy's own metric {metric.name} is silent: {tiles}; no data is never a pass."


def noisy(cause: str, would_say: str) -> str:
    """Latency would convict, were it not for `cause`."""
    return f"noisy: {cause}; latency is not held against the canary meanwhile, though {would_say}."
