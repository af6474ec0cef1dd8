"""The words of a comparison: canary against stable, against what was tolerated, against the policy's own metrics.

Every figure is computed from the numbers given; nothing here decides. Texts without a full stop are parts of a
verdict's sentence, the others whole ones.
"""

from __future__ import annotations

import math
from datetime import timedelta

from canary.analysis.baseline import HISTORY_S, TAIL
from canary.analysis.sentence import bound_text, out_of, ratio_text, share_text, stable_text
from canary.model.objectives import CustomMetric, Tolerance
from canary.model.units import format_duration
from canary.model.verdict import Evidence


def tolerance_text(tolerance: Tolerance) -> str:
    """ "1.2x + 0.05 %"."""
    return f"{tolerance.ratio:g}x + {share_text(tolerance.slack)}"


def _weighed(numbers: Evidence) -> str:
    return f"{ratio_text(numbers.e_value, numbers.limit)} (limit {ratio_text(numbers.limit)})"


def _short_past(history_s: float) -> str:
    """What a short look at stable's past (seconds) means, "" when it was long enough."""
    if history_s >= HISTORY_S - 30:
        return ""
    known = f"only {format_duration(timedelta(seconds=round(history_s)))}" if history_s >= 1 else "nothing"
    return f"; {known} of stable's past was known, so bursts may count for too much"


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
    return (
        f"{_counts(worse, None)}; worse than stable with evidence {_weighed(worse)} and worse than the tolerated "
        f"{tolerance_text(tolerance)} with {_weighed(beyond)}{_short_past(history_s)}"
    )


def slower_than_stable(numbers: Evidence, bound_ms: float, tolerance: Tolerance, history_s: float) -> str:
    return (
        f"{_counts(numbers, bound_ms)}; slower than the tolerated {tolerance_text(tolerance)} with evidence "
        f"{_weighed(numbers)}{_short_past(history_s)}"
    )


def latency_not_compared(history_s: float) -> str:
    """The policy asks to compare latency, and stable's past (of `history_s` seconds) gave nothing to do it by."""
    if not history_s:
        return "latency not compared with stable, of whose past nothing was known"
    least, most = TAIL
    return (
        f"latency not compared with stable (before the rollout there was no bucket bound that {share_text(least)} to "
        f"{share_text(most)} of its requests exceeded)"
    )


def perhaps_worse(numbers: Evidence, bound_ms: float | None, passes_below: float) -> str:
    """Not failed, but too close to it for a step to end; `bound_ms` None for errors."""
    what = "worse than stable" if bound_ms is None else "slower than tolerated"
    return (
        f"undecided: {_counts(numbers, bound_ms)}; {what} with evidence {ratio_text(numbers.e_value, numbers.limit)} "
        f"(a step passes below {ratio_text(passes_below)}, fails at {ratio_text(numbers.limit)})."
    )


def worse_but_tolerated(worse: Evidence, beyond: Evidence, tolerance: Tolerance, passes_below: float) -> str:
    """Proven worse than stable, and not (yet) worse than what the policy tolerates."""
    return (
        f"undecided: {_counts(worse, None)}; worse than stable with evidence {ratio_text(worse.e_value)} (a step "
        f"passes below {ratio_text(passes_below)}), but worse than the tolerated {tolerance_text(tolerance)} only with "
        f"{ratio_text(beyond.e_value, beyond.limit)} (fails at {ratio_text(beyond.limit)})."
    )


def not_yet_healthy(numbers: Evidence, more: int | None) -> str:
    """Nothing is wrong, and too little was seen to say that all is well."""
    if more is None:
        rest = "its errors are not clearly below twice stable's + 1 %"
    else:
        rest = f"about {max(more, 1):,} more canary requests like these"
    so_far = f"{ratio_text(numbers.e_value, numbers.limit)} of the {ratio_text(numbers.limit)} that a step needs"
    return f"not proven yet: {_counts(numbers, None)}; evidence of health {so_far}, {rest}."


def healthy_enough(numbers: Evidence) -> str:
    return f"evidence of health {ratio_text(numbers.e_value)} (needs {ratio_text(numbers.limit)})"


def harm_done(numbers: Evidence, harm: float, budget: float, needs: float) -> str:
    over = f"{math.ceil(harm * 10) / 10:,.1f}".removesuffix(".0")  # never rounded down to the budget itself
    return (
        f"the canary cost {over} more errors than stable's rate explains, over the harm budget of {budget:,.0f}: "
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
    """`value` is the newest one over the limit, `over` of the last `seen` tiles were."""
    tiles = "the last tile" if seen == 1 else f"{over} of the last {seen} tiles"
    enough = "one is" if metric.breaches == 1 else f"{metric.breaches} of {metric.of} are"
    return (
        f"{metric.name} was {_figure(value)}, over its limit of {_figure(metric.max)} in {tiles} ({enough} enough; the "
        "policy's own metric, without a bound on false rollbacks)"
    )


def own_metric_silent(metric: CustomMetric, seen: int) -> str:
    tiles = "the last tile" if seen == 1 else f"the last {seen} tiles"
    return f"the policy's own metric {metric.name} is silent: no value in {tiles}; no data is never a pass."


def _figure(value: float) -> str:
    """Six significant digits, without an exponent where people would not write one: 1234567.0 -> "1,234,567"."""
    if 1e6 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.6g}"


def noisy(cause: str, would_say: str) -> str:
    """Latency would convict, were it not for `cause`."""
    return f"noisy: {cause}; latency is not held against the canary meanwhile, though {would_say}."
