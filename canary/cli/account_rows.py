"""The words and cells of `canary explain`.

Written for somebody who has never heard of an e-value: counts first, then odds with the odds that they need, and in a
few lines what those mean. Whoever wants every figure takes `-o json`. Texts of the record are as they came: who prints
them makes them safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from canary.analysis.sentence import bound_text, ratio_text, seconds_text, share_text
from canary.cli.account import FOR, TOLERATED, Account, reason_text
from canary.cli.durations import short
from canary.cli.table import GAP, column_widths
from canary.model.units import format_duration
from canary.model.verdict import ArmCounts, Evidence, Reason, Verdict

NOTHING = "-"

STEP_COLUMNS = (
    "STEP",
    "WEIGHT",
    "FROM",
    "LASTED",
    "CANARY FAILED",
    "STABLE FAILED",
    "SLOW",
    "AGAINST IT",
    "IN FAVOUR",
    "RESULT",
)
NUMBER_COLUMNS = ("WHAT IS WEIGHED", "CANARY", "STABLE", "BOUND", "ODDS", "NEEDED")
VERDICT_COLUMNS = ("AT", "STEP", "VERDICT", "SENTENCE")


def step_rows(account: Account) -> list[list[str]]:
    """The cells of `STEP_COLUMNS`."""
    of, bound = account.record.policy.strategy.last_step, account.slow_bound
    rows = []
    for step in account.steps():
        sums = step.counted
        rows.append(
            [
                step_text(step.index, of),
                f"{step.weight}%",
                clock(sums.start) if sums else NOTHING,
                span(sums.start, sums.end) if sums else NOTHING,
                out_of(sums.canary.errors, sums.canary.requests) if sums else NOTHING,
                out_of(sums.stable.errors, sums.stable.requests) if sums else NOTHING,
                f"{_slow(sums.canary, bound)} / {_slow(sums.stable, bound)}" if sums and bound is not None else NOTHING,
                odds(step.against, step.verdict),
                odds(step.in_favour, None),
                step.came,
            ]
        )
    return rows


def number_rows(account: Account) -> list[list[str]]:
    """The cells of `NUMBER_COLUMNS`: all evidence of the verdict that counts."""
    last = account.weighed
    return [
        [
            _metric(one, account),
            out_of(one.canary_bad, one.canary_total),
            out_of(one.stable_bad, one.stable_total) if one.stable_total else NOTHING,
            share_text(one.bound),
            ratio_text(one.e_value) + (" reached" if one.e_value >= one.limit else ""),
            ratio_text(one.limit),
        ]
        for one in (last.verdict.evidence if last else ())
    ]


def verdict_rows(account: Account) -> list[list[str]]:
    """The cells of `VERDICT_COLUMNS`: every change of verdict."""
    of = account.record.policy.strategy.last_step
    return [
        [
            clock(entry.at),
            NOTHING if entry.step is None else step_text(entry.step, of),
            f"{entry.verdict.outcome}: {reason_text(entry.verdict)}",
            entry.verdict.sentence,
        ]
        for entry in account.judged
    ]


def facts(account: Account) -> Iterator[tuple[str, str]]:
    """What a reader should know before the rows: (label, fact)."""
    life, record = account.life, account.record
    if life is None:
        return
    history = life.baseline.history_s
    yield "Judged by", f"policy {record.policy.name}, in tiles of {_duration(record.tile_s)}"
    known = f"known from the {_duration(history)} before the rollout" if history else "had no past that was known"
    bursts = life.baseline.errors_phi
    yield "Stable", known + (f"; its errors come in bursts, so each weighs {1 / bursts:.0%}" if bursts > 1 else "")
    if life.base is not None:
        yield "Kept from", f"{clock(life.base.upto)} on; of the time before, sums and the judge's state"
    if len(record.lives) > 1:
        yield (
            "Restarts",
            "counts came out differently after a restart: the verdicts before it are those of another judge",
        )
    if life.lost:
        yield "Left out", f"{life.lost:,} changes of the verdict, the oldest of their steps"


def notes(account: Account) -> list[str]:
    """What the columns of the steps count."""
    bound = account.slow_bound
    slow = "" if bound is None else f"SLOW: took longer than {bound_text(bound)}, canary / stable. "
    return [f"{slow}Times are UTC. The warm-up is counted here, and not judged."]


def legend(account: Account) -> list[str]:
    """What the odds mean, with this rollout's own figures."""
    last = account.weighed
    numbers = {one.metric: one for one in (last.verdict.evidence if last else ())}
    against = [one for metric, one in numbers.items() if metric not in (FOR, TOLERATED)]
    if not against:
        return []
    one = max(against, key=lambda found: found.e_value / found.limit)
    made, limit = ratio_text(one.e_value).removesuffix(":1"), f"{one.limit:,.0f}"
    lines = [
        f"AGAINST IT {made}:1 reads like odds: a fair bet that the canary is worse would have made {made} out of 1. If "
        f"it is no worse, such a bet ever reaches {limit} in at most one of {limit} rollouts, however often one looks; "
        f"at {limit}:1 the canary is taken off."
    ]
    if TOLERATED in numbers:
        lines.append(
            f"About errors a second bet must agree, at {ratio_text(numbers[TOLERATED].limit)}: that the canary is "
            "worse than the policy tolerates, and not merely worse."
        )
    if FOR in numbers:
        lines.append(
            "IN FAVOUR is the same for the good news, that the canary fails less than twice as often as stable "
            f"plus 1 %: a step may end from {ratio_text(numbers[FOR].limit)} on."
        )
    return lines


def step_text(index: int, of: int) -> str:
    return "header" if index == 0 else f"{min(index, of)}/{of}"


def out_of(bad: int, total: int) -> str:
    """ "7 of 131 (5.3 %)"."""
    return f"{bad:,} of {total:,} ({share_text(bad / total)})" if total else "no requests"


def odds(one: Evidence | None, verdict: Verdict | None) -> str:
    """ "3,900:1 of 200:1"; a fast abort is not weighed."""
    if verdict is not None and verdict.reason is Reason.FAST_ABORT:
        return "near-total failure"
    return NOTHING if one is None else f"{ratio_text(one.e_value)} of {ratio_text(one.limit)}"


def clock(unix: float) -> str:
    """The time of day in UTC; "?" for what is no time."""
    found = moment(unix)
    return found.strftime("%H:%M:%S") if found else "?"


def moment(unix: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(unix, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def span(start: float, end: float) -> str:
    try:
        return short(timedelta(seconds=round(end - start)))
    except (ValueError, OverflowError):
        return "?"


def _duration(seconds: float) -> str:
    """Whole seconds from a minute on: a scrape interval was measured, and so is not a round figure."""
    if not 0 <= seconds < 1e9:
        return "?"
    return seconds_text(seconds) if seconds < 60 else format_duration(timedelta(seconds=round(seconds)))


def _slow(arm: ArmCounts, bound: float) -> str:
    return share_text(arm.slower[bound] / arm.timed) if arm.timed and bound in arm.slower else NOTHING


def _metric(one: Evidence, account: Account) -> str:
    analysis = account.record.policy.analysis
    tolerance = analysis.error_rate.tolerance
    tolerated = f" ({tolerance.ratio:g}x + {share_text(tolerance.slack)})" if tolerance else ""
    p99 = analysis.p99.max_ms
    words = {
        "error_rate_vs_stable": "more errors than stable",
        TOLERATED: f"more errors than tolerated{tolerated}",
        "latency_vs_stable": "more slow requests than tolerated",
        "error_rate": "errors over the policy's limit",
        "p99": "P99 over the policy's limit" + (f" of {bound_text(p99)}" if p99 else ""),
        "error_rate_vs_frozen": "more errors than stable had (frozenBound)",
        "unattributed": "requests that reached no version",
        FOR: "in favour: fewer errors than 2x stable + 1 %",
    }
    return words.get(one.metric, one.metric)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines for a pipe: aligned, never wrapped, the last column not padded."""
    table = [list(columns), *(list(row) for row in rows)]
    widths = column_widths([row[:-1] for row in table])
    return [
        GAP.join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in table
    ]
