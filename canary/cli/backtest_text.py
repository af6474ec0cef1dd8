"""What a backtest found, as people read it: every change of the verdict, and what would have become of it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from canary.analysis.backtest import Backtest
from canary.analysis.sentence import share_text
from canary.analysis.splits import Hour
from canary.cli.backtest_document import Subject, backtest_document, past_document
from canary.cli.durations import exact
from canary.cli.options import Output
from canary.cli.own_past import OwnPast
from canary.cli.recorded import utc
from canary.cli.table import GAP, column_widths
from canary.cli.terminal import safe
from canary.model.policy import Policy
from canary.model.verdict import Outcome

WORST = 10
NARROW = 30


def show_backtest(subject: Subject, found: Backtest, output: Output) -> None:
    if output in (Output.JSON, Output.YAML):
        _write(backtest_document(subject, found), output)
        return
    lines = [
        f"{subject.what}; policy {subject.policy.name}, {utc(subject.began)} to {utc(subject.until)}, "
        f"{found.windows:,} windows, tiles of {subject.tile_s:g} s.",
        *([subject.note] if subject.note else []),
        "",
        *_changes(subject, found),
        "",
        *_conclusion(subject, found),
    ]
    print("\n".join(safe(line) for line in lines))


def show_past(past: OwnPast, output: Output) -> None:
    if output in (Output.JSON, Output.YAML):
        _write(past_document(past), output)
        return
    unwell = [hour for hour in past.hours if hour.unwell]
    worst = sorted((hour for hour in past.hours if hour.rolled_back and not hour.unwell), key=_worst_first)
    lines = [
        f"{past.workload.name}: its own past, split into a pretended canary and stable by the weights of policy "
        f"{past.policy.name}; {past.splits} rollouts an hour, tiles of {past.tile_s:g} s, seed {past.seed}.",
        "",
        _there(past),
        *_answer(past),
    ]
    if worst:
        lines += ["", "Rolled back without a fault", *_hours(worst[:WORST], rolled_back=True)]
    if unwell:
        lines += ["", "Not healthy, and so not counted: the service itself broke a limit", *_hours(unwell[:WORST])]
    print("\n".join(safe(line) for line in lines))


def _changes(subject: Subject, found: Backtest) -> list[str]:
    of = subject.policy.strategy.last_step
    rows = [["AT (UTC)", "AFTER", "STEP", "WEIGHT", "VERDICT"]]
    for told in found.changes:
        verdict = told.verdict
        said = f"{verdict.outcome.upper()} {verdict.reason.replace('_', ' ')}: {verdict.sentence}"
        after = exact(timedelta(seconds=told.at - subject.began))
        rows.append([_clock(told.at), after, _step(told.step, of), f"{told.weight}%", said])
    return _aligned(rows)


def _conclusion(subject: Subject, found: Backtest) -> list[str]:
    of = subject.policy.strategy.last_step
    lines = []
    if found.failed is not None:
        told = found.failed
        after = exact(timedelta(seconds=told.at - subject.began))
        lines.append(
            f"ROLLED BACK at {utc(told.at)}, {after} after the canary could first be reached, in step "
            f"{_step(told.step, of)}."
        )
    elif found.stopped is not None:
        why = found.stopped.verdict.sentence if found.stopped.verdict else "no window of this step."
        choice = subject.policy.analysis.on_inconclusive.value
        lines.append(f"STOPPED in step {_step(found.stopped.step, of)} (onInconclusive: {choice}): {why}")
    else:
        lines += _not_failed(found, of)
    if subject.really:
        same = found.failed is not None and found.failed.verdict.sentence in subject.really_said
        said = ", with the same sentence." if same else f": {subject.really_said}" if subject.really_said else "."
        lines.append(f"What really became of it: {subject.really}{said}")
    return lines


def _not_failed(found: Backtest, of: int) -> list[str]:
    if not found.steps:
        return ["NOT ROLLED BACK, but nothing was judged: no tile was evidence of any step."]
    last = found.steps[-1]
    waits = [step for step in found.steps[:-1] if step.verdict.outcome is not Outcome.PASS]
    lines = [
        f"NOT ROLLED BACK. Step {_step(step.step, of)} had no pass at its end, so this policy would have waited: "
        f"{step.verdict.sentence}"
        for step in waits
    ]
    if last.verdict.outcome is not Outcome.PASS:
        lines.append(
            f"NOT ROLLED BACK as far as the figures go. They end in step {_step(last.step, of)}, without a pass: "
            f"{last.verdict.sentence}"
        )
    return lines or ["NOT ROLLED BACK: every step ended with a pass."]


def _there(past: OwnPast) -> str:
    here = f"Prometheus has requests in {len(past.hours):,} of the {past.asked_hours:,} hours before {utc(past.until)}"
    missing = past.asked_hours - len(past.hours)
    if not missing:
        return here + "."
    why = "what is missing: its retention, idle hours, or another Deployment"
    return f"{here}; the first begins {utc(past.begins)} ({why})."


def _answer(past: OwnPast) -> list[str]:
    found, unwell = past.found, sum(bool(hour.unwell) for hour in past.hours)
    healthy = [hour for hour in past.hours if not hour.unwell]
    if not found.rollouts:
        return ["In none of them was the service healthy by this policy: there is nothing to be wrong about."]
    low, high = found.interval
    hours = sum(1 for hour in healthy if hour.rolled_back)
    lines = [
        f"In {found.hours:,} healthy hours {found.rolled_back:,} of {found.rollouts:,} rollouts would have been rolled "
        f"back ({share_text(found.share)}; 95 % interval {share_text(low)} to {share_text(high)}), in {hours:,} of the "
        "hours.",
        _bound(past.policy),
    ]
    undecided, cut = sum(hour.undecided for hour in healthy), sum(hour.cut for hour in healthy)
    if undecided:
        lines.append(f"{undecided:,} stopped for want of a verdict ({past.policy.analysis.on_inconclusive.value}).")
    if cut:
        lines.append(f"{cut:,} were not at their end when the figures ended.")
    if unwell:
        lines.append(f"{unwell:,} hours were not healthy." if unwell > 1 else "1 hour was not healthy.")
    return lines


def _bound(policy: Policy) -> str:
    analysis = policy.analysis
    relative = [found for found in (analysis.error_rate.tolerance, analysis.p99.tolerance) if found is not None]
    absolute = [limit for limit in (analysis.error_rate.max, analysis.p99.max) if limit is not None]
    parts = []
    if relative:
        parts.append(f"at most {share_text(len(relative) * analysis.alpha)} for being no worse than stable")
    if absolute:
        parts.append(f"{share_text(analysis.alpha)} more for each absolute limit that the service sits exactly at")
    if not parts:
        return "The policy states no bound: it compares nothing, and has no limits."
    return f"The policy states {', and '.join(parts)} (confidence {share_text(analysis.confidence)})."


def _hours(hours: Sequence[Hour], *, rolled_back: bool = False) -> list[str]:
    rows = [["HOUR (UTC)", "REQUESTS", "ERRORS", "ROLLED BACK", "WHY"]]
    for hour in hours:
        began = datetime.fromtimestamp(hour.start, UTC).strftime("%Y-%m-%d %H:%M")
        why = hour.sentence if rolled_back else hour.unwell
        rows.append([began, f"{hour.requests:,}", f"{hour.errors:,}", f"{hour.rolled_back} of {hour.splits}", why])
    return _aligned(rows)


def _worst_first(hour: Hour) -> tuple[float, float]:
    return (-hour.rolled_back / hour.splits, hour.start)


def _write(document: dict[str, Any], output: Output) -> None:
    from canary.cli.documents import as_json, as_yaml

    sys.stdout.write(as_json(document) if output is Output.JSON else as_yaml(document))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under each other; the last one as long as it is, on a terminal wrapped under itself."""
    widths = column_widths([row[:-1] for row in rows])
    indent = sum(widths) + len(GAP) * len(widths)
    room = shutil.get_terminal_size().columns - indent if sys.stdout.isatty() else 0
    lines = []
    for row in rows:
        front = GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + GAP
        last = textwrap.wrap(row[-1], room) if room >= NARROW and len(row[-1]) > room else [row[-1]]
        lines += [f"{front}{last[0]}".rstrip(), *(" " * indent + more for more in last[1:])]
    return lines


def _step(step: int, of: int) -> str:
    return "header" if step == 0 else f"{step}/{of}"


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%H:%M:%S")
