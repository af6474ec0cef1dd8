"""The run as people read it: one table on the terminal, the same and more as docs/bench-verdict.md.

Nothing machine-dependent goes into the markdown: the same commit and seed give the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from bench.verdict import why_two
from bench.verdict.more_scenarios import SETTINGS
from bench.verdict.policies import MEANINGS
from bench.verdict.results import Line, Results
from bench.verdict.run import OURS
from bench.verdict.scenarios import BASES, TITLES

HEADINGS = ("#", "case", "policy", "rollouts", "figure", "measured (95 % interval)", "target", "")
INTRODUCTION = """\
# How the judge does, and how other rules do, on traffic whose truth is known

Made by `make bench-verdict` (commit {commit}, seed {seed}; where nothing else is said {standard:,} rollouts each). The
product's own judge is driven window by window through whole simulated rollouts: requests that arrive by themselves
(Poisson), fail independently unless said otherwise, and take a lognormal time (median 50 ms, sigma 0.8) counted in
Istio's buckets; ten steps of 60 s at 10, 20 ... 100 %, a window every 6 s; the baseline is learnt from ten simulated
minutes before. What a weight change hides (the tiles around it) is not simulated here. "p50" and "p90" are over all
rollouts of a case, those never caught included; requests and errors are the canary's until the rollback, seconds are
those since it turned bad. Intervals are Clopper and Pearson's for shares, order statistics for quantiles.

Policies: {policies}.

## The targets
"""


def table(results: Results, rows: Sequence[str]) -> Table:
    """The targets on the terminal."""
    found = Table(*HEADINGS, title=f"make bench-verdict: commit {results.commit}, seed {results.seed}", pad_edge=False)
    for row in rows:
        for line in results.of(row):
            style = "bold red" if line.met is False else None
            found.add_row(*_cells(line), style=style)
        found.add_section()
    return found


def markdown(results: Results) -> str:
    """docs/bench-verdict.md."""
    policies = "; ".join(f"*{name}*: {meaning}" for name, meaning in MEANINGS.items())
    parts = [
        INTRODUCTION.format(commit=results.commit, seed=results.seed, standard=results.standard, policies=policies)
    ]
    for row, title in TITLES.items():
        if lines := results.of(row):
            parts.append(f"**{row}. {title}**\n")
            parts.append(_grid(HEADINGS[1:], (_cells(line)[1:] for line in lines)))
    if results.of("rivals"):
        parts.append(_rivals(results))
    if results.of("open"):
        parts.append(_open(results))
    if results.curves:
        parts.append("## The most that any rule could catch\n")
        parts.append("![Caught by when](pictures/why-two.svg)\n")
        parts.append(why_two.figures(results.curves, results.commit, results.seed) + "\n")
        parts.append("What this means: [why-two.md](why-two.md).\n")
    return "\n".join(parts)


def _cells(line: Line) -> tuple[str, ...]:
    policy = line.policy + (", with the hold" if line.with_hold else "")
    estimate = line.estimate
    return line.row, line.case, policy, f"{estimate.of:,}", line.figure, estimate.text, line.target, line.result


def _rivals(results: Results) -> str:
    harmless, bad = results.compared("rolled back"), results.compared("caught")
    rules = (OURS, *results.rules)
    alarms = ((who, *(_percent(results.one(case, who, "rolled back").value) for case in harmless)) for who in rules)
    parts = [
        "## Beside other controllers' rules, on the same traffic\n",
        "Written from their descriptions and sources (`bench/verdict/rivals.py`): checks every 10 s over the last 30 s "
        "for Flagger and Argo Rollouts, every window for the two that compare with stable. They walk the same plan. "
        f"*{OURS}* has the policy *relative*.\n",
        "![False rollbacks](pictures/false-rollbacks.svg)\n",
        "Identical canaries that are rolled back:\n",
        _grid(("rule", *harmless), alarms),
        "![Requests until a bad canary is caught](pictures/detection.svg)\n",
        "A canary beside a stable with 0.1 % errors at 50 rps, by the canary's error rate: caught, canary requests and "
        "errors until the rollback (medians; - when less than half were caught):\n",
        _grid(("rule", *bad), ((who, *(_caught(results, case, who) for case in bad)) for who in rules)),
        "Read both tables together: who rolls back everything catches everything.\n",
    ]
    return "\n".join(parts)


def _caught(results: Results, case: str, who: str) -> str:
    share, requests, errors = (results.one(case, who, name) for name in ("caught", "requests p50", "errors p50"))
    if share.value < 0.5:
        return f"{100 * share.value:.1f} %, -"
    return f"{100 * share.value:.1f} %, {requests.value:,.0f}, {errors.value:,.0f}"


def _open(results: Results) -> str:
    heads = ("traffic", "A/A rolled back", "the same without phi", "A/A with the hold", "→ 5 %", "doubled")
    return "\n".join(
        (
            "## Where the assumptions end\n",
            "Less traffic, errors that hang together, slow scrapes. *Without phi* takes the counts as independent; the "
            "product divides them by the dispersion of stable's own past. With the hold, as the product runs: rolled "
            "back / paused for a person because `maxWait` (10 min) was over / seconds held beyond the plan on average, "
            "the paused ones included. FA: rolled back by the fast abort, whose thresholds carry no bound. "
            "Detection with the hold: caught / paused, median of canary requests. Pods: each of "
            "ten pods of either version fails a fifth of its requests for about 30 s, about every 20 min. Users: a "
            "user's requests of two seconds fail together. Retries: each failure counts as three.\n",
            _grid(heads, _open_rows(results)),
        )
    )


def _open_rows(results: Results) -> Iterator[tuple[str, ...]]:
    for setting, _, _ in SETTINGS:
        for base in BASES:
            name = f"{setting}; {100 * base:g} %"
            blind = any(line.case == f"{name}: A/A without phi" for line in results.of("open"))
            held = {
                figure: results.one(f"{name}: A/A with the hold", OURS, figure).value
                for figure in ("rolled back", "paused", "held by doubt", "held for the pass")
            }
            yield (
                name,
                _alarms(results, f"{name}: A/A"),
                _alarms(results, f"{name}: A/A without phi") if blind else "",
                f"{100 * held['rolled back']:.1f} % / {100 * held['paused']:.1f} % / "
                f"{held['held by doubt'] + held['held for the pass']:.0f} s",
                *(_open_caught(results, f"{name}: {what}") for what in ("→ 5 %", "doubled")),
            )


def _alarms(results: Results, case: str) -> str:
    aborted = results.one(case, OURS, "by the fast abort").value
    of_which = f", FA {100 * aborted:.2f} %" if aborted else ""
    return results.one(case, OURS, "rolled back").text + of_which


def _open_caught(results: Results, case: str) -> str:
    caught, paused, requests = (results.one(case, OURS, name) for name in ("caught", "paused", "requests p50"))
    median = f", {requests.value:,.0f}" if caught.value >= 0.5 else ""
    return f"{100 * caught.value:.1f} % / {100 * paused.value:.1f} %{median}"


def _percent(share: float) -> str:
    """With as many digits as say something."""
    return f"{100 * share:.2f} %" if 0 < share < 0.01 else f"{100 * share:.3g} %"


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
