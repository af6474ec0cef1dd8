"""A plan as people read it: the steps, what a bad version would cost, what would be written, what to look out for."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from canary.analysis.advice import rate_text
from canary.analysis.faults import FAULTS
from canary.analysis.forecast import Catch, Spread, StepForecast
from canary.analysis.sentence import share_text
from canary.analysis.traffic import quantile_ms
from canary.cli.durations import exact
from canary.cli.table import GAP, column_widths
from canary.cli.terminal import safe

if TYPE_CHECKING:
    from canary.cli.plan import Plan

NOT_HERE, NO_FAULT = "-", "n/a"
NARROW = 40
HEADS = {
    "all_fail": "ALL FAIL",
    "errors_5": "5% ERRORS",
    "errors_1": "1% ERRORS",
    "errors_doubled": "ERRORS X2",
    "p99_half_more": "P99 +50%",
}


def show(plan: Plan, *, wide: bool) -> None:
    """Print the plan. `wide` adds the lines of every write."""
    lines = [*_heading(plan), "", *_steps(plan), "", *_bad(plan)]
    if plan.changes:
        lines += ["", *_writes(plan, wide=wide)]
    lines += ["", *_cautions(plan), "", *_precision(plan)]
    print("\n".join(lines))


def _heading(plan: Plan) -> list[str]:
    release, traffic = plan.release, plan.measured.traffic
    stable = traffic.stable
    if release.route is None:
        what = f"The next version in place of {release.stable}: Service {release.service}"
    else:
        what = (
            f"{release.target} in place of {release.stable}: Service {release.service}, VirtualService "
            f"{release.route.virtual_service}"
        )
    p99 = quantile_ms(stable.slower, 0.01)
    latency = f", P99 about {p99:.0f} ms" if p99 is not None and stable.timed_share else ""
    span = _span(plan.measured.seconds)
    fails = share_text(stable.error_share) if stable.error_share else "none"
    measured = (
        f"Measured in the last {span}: {rate_text(traffic.requests_per_s)}, stable fails {fails} of them{latency}. "
        f"Counted in tiles of {plan.timing.tile_s:g} s."
    )
    return [*_wrapped(f"{what}, policy {release.policy.name}."), *_wrapped(measured)]


def _steps(plan: Plan) -> list[str]:
    strategy = plan.release.policy.strategy
    upper = ["", "", "", "REQUESTS", "", "CAN PASS", *["NOTICED WITHIN", *[""] * (len(FAULTS) - 1)]]
    header = ["STEP", "WEIGHT", "TAKES", "CANARY", "STABLE", "AFTER", *(HEADS[fault.name] for fault in FAULTS)]
    blank = [""] * (len(header) - 3)
    rows = [upper, header]
    if strategy.match is not None and not strategy.is_header_only:
        rows.append(["header", "", _time(plan.forecast.header_s), *blank])
    rows += [_step(plan, step) for step in plan.forecast.steps]
    if strategy.bake:
        rows.append(["bake", "", _time(strategy.bake.total_seconds()), *blank])
    table = _aligned(rows)
    if sys.stdout.isatty() and max(map(len, table)) > shutil.get_terminal_size().columns:
        noticed = [[row[0], *row[6:]] for row in rows if any(row[6:])]
        table = [*_aligned([row[:6] for row in rows]), "", *_aligned(noticed)]
    noticed_text = (
        "NOTICED WITHIN: from the weight's change to the decision to roll back, in half of the cases / in 9 of 10, if "
        f'the version turns bad with this step; "{NOT_HERE}": not within this step.'
    )
    return [*table, *_wrapped(noticed_text), *(line for note in _notes(plan) for line in _wrapped(note))]


def _notes(plan: Plan) -> list[str]:
    """What the table alone would leave people wondering about."""
    policy, found = plan.release.policy, plan.forecast
    notes = []
    match = policy.strategy.match
    if policy.strategy.is_header_only:
        notes.append("Only requests with the header reach the canary until somebody says `canary promote`; then this.")
    elif match is not None and match.min_requests:
        notes.append(
            f"The header stage asks for {match.min_requests:,} requests with the header: how long these take is up to "
            "people, and not planned."
        )
    late = [step for step in found.steps if (step.lasts.median_s or 0) > max(1.2 * step.hold_s, step.hold_s + 5)]
    if late:
        last = policy.strategy.last_step
        first = "Step " if len(late) == 1 else "Steps "
        names = ", ".join(f"{step.step}/{last}" for step in late)
        verb, waits = ("holds", "waits") if len(late) == 1 else ("hold", "wait")
        hold = _time(late[0].hold_s) if len({step.hold_s for step in late}) == 1 else "less"
        notes.append(
            f"{first}{names} {verb} {hold} by the policy, and then {waits} for the evidence that a pass needs."
        )
    if found.steps[-1].weight == 100 and not policy.analysis.frozen_bound:
        notes.append(
            "At 100 % no stable is left to compare with: only the absolute limits and the fast abort judge "
            "(keepStable: 5% would compare to the end)."
        )
    pauses = [f"{weight} %" for weight in policy.strategy.pause_at]
    asks = f", and the time that it waits for `canary promote` at {' and '.join(pauses)}" if pauses else ""
    median_s, ninety_s = found.total.median_s, found.total.ninety_s
    in_all = f"In all about {_time(median_s)}" if median_s is not None else "How long it takes in all cannot be said"
    if median_s is not None and ninety_s is not None and ninety_s > median_s * 1.01:
        in_all += f", 9 of 10 within {_time(ninety_s)}"
    return [*notes, f"{in_all}{asks}."]


def _step(plan: Plan, step: StepForecast) -> list[str]:
    number = f"{step.step}/{plan.release.policy.strategy.last_step}"
    if not step.reached:
        return [number, f"{step.weight}%", "?", *[""] * (3 + len(FAULTS))]
    takes = _time(step.lasts.median_s) if step.lasts.median_s is not None else "undecided"
    return [
        number,
        f"{step.weight}%",
        takes,
        f"{step.canary:,.0f}",
        f"{step.stable:,.0f}",
        _pair(step.can_pass) if step.can_pass.median_s is not None else "never",
        *(_caught(step.catches.get(fault.name)) for fault in FAULTS),
    ]


def _caught(catch: Catch | None) -> str:
    return NO_FAULT if catch is None else _pair(catch.seconds)


def _pair(spread: Spread) -> str:
    if spread.median_s is None:
        return NOT_HERE
    median, ninety = _time(spread.median_s), NOT_HERE if spread.ninety_s is None else _time(spread.ninety_s)
    return median if median == ninety else f"{median}/{ninety}"


def _bad(plan: Plan) -> list[str]:
    rows = [["IF THE NEW VERSION IS BAD FROM THE START", "NOTICED", "WITHIN", "WHAT IT COSTS"]]
    for fault in FAULTS:
        catch = plan.forecast.whole[fault.name]
        if catch is None:
            rows.append([fault.words, NO_FAULT, "", "stable is like that, or it cannot be told"])
            continue
        is_slow = fault.name == "p99_half_more"
        rows.append([fault.words, f"{catch.share:.0%}", _pair(catch.seconds), _cost(catch, is_slow=is_slow)])
    return _aligned(rows, right=(1, 2))


def _cost(catch: Catch, *, is_slow: bool) -> str:
    rest = f"; {catch.stopped:.0%} stop without a verdict" if catch.stopped >= 0.005 else ""
    if catch.requests is None or catch.errors is None:
        return (
            f"it goes unnoticed{rest}" if catch.stopped < 1 else "no step passes: the rollout stops without a verdict"
        )
    requests = f"{catch.requests:,.0f} requests"
    if is_slow:
        return f"about {requests} to it{rest}"
    errors = f"{catch.errors:,.0f} errors" if round(catch.errors) != 1 else "1 error"
    return f"about {errors} in {requests}{rest}"


def _writes(plan: Plan, *, wide: bool) -> list[str]:
    lines = ["What it would write (-o json has the patches)"]
    last = plan.release.policy.strategy.last_step
    for change in plan.changes:
        where = "before" if change.step is None else "header" if change.step == 0 else f"{change.step}/{last}"
        shown = change.lines if wide else [line for line in change.lines if "metadata.annotations" not in line]
        lines += [f"  {where:<7} {safe(line)}" for line in shown] or [f"  {where:<7} nothing: it is so already"]
    return lines


def _cautions(plan: Plan) -> list[str]:
    if not plan.cautions:
        return ["Nothing speaks against this plan."]
    lines = ["Look out"]
    for caution in plan.cautions:
        text = caution.text[:1].upper() + caution.text[1:]
        lines += _wrapped(text, first="  - ", later="    ")
    return lines


def _precision(plan: Plan) -> list[str]:
    return _wrapped(
        f"Imagined: {plan.forecast.runs} rollouts with the real judge (seed {plan.forecast.seed}), so half of the "
        "cases means 40 to 60 %, and 9 of 10 means 81 to 99 %; errors that come by pod or by user are not imagined."
    )


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int] | None = None) -> list[str]:
    """Columns under each other; numbers to the right: all but the first, or those named."""
    widths = column_widths(rows)
    to_the_right = range(1, len(widths)) if right is None else right
    return [
        GAP.join(
            cell.rjust(width) if column in to_the_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _wrapped(text: str, first: str = "", later: str = "") -> list[str]:
    if not sys.stdout.isatty():
        return [first + safe(text)]
    width = max(shutil.get_terminal_size().columns, NARROW)
    return textwrap.wrap(
        safe(text), width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )


def _span(seconds: float) -> str:
    return "hour" if round(seconds) == 3600 else exact(timedelta(seconds=seconds))


def _time(seconds: float) -> str:
    """Short: tenths below ten seconds, whole ones, and no seconds from ten minutes on."""
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    if seconds >= 600:
        seconds = round(seconds / 60) * 60
    return exact(timedelta(seconds=seconds))
