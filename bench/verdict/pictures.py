"""The pictures of the docs: drawn from the results alone, the same bytes for the same results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.verdict.results import Results
from bench.verdict.run import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1f5fbf", "#c4572b", "#8a8a8a", "#7b4fa3", "#b08c1d", "#2f8f6b", "#444444")
"""Ours first; the others in the order of the rules."""

PERCENT_OF_CURVE = "→ "
SAME_TRAFFIC = "50 rps, 0.1 %"
"""The harmless case with the traffic of the detection curves."""
TOLERABLE = 0.01


def draw_all(results: Results, folder: Path, suffix: str = "svg") -> list[Path]:
    """Write each picture for which the run has figures; the files written."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams.update(
        {
            "svg.hashsalt": "canary",
            "svg.fonttype": "path",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "axes.axisbelow": True,
            "figure.facecolor": "white",
            "legend.frameon": False,
        }
    )
    pictures = {}
    if results.of("rivals"):
        pictures = {"false-rollbacks": _false_rollbacks(results), "detection": _detection(results)}
    if results.curves:
        pictures["why-two"] = _why_two(results)
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        path = folder / f"{name}.{suffix}"
        figure.savefig(path, metadata={"Date": None} if suffix == "svg" else None, dpi=110, bbox_inches="tight")
        pyplot.close(figure)
        written.append(path)
    return written


def _false_rollbacks(results: Results) -> Figure:
    from matplotlib import pyplot

    cases, rules = results.compared("rolled back"), (OURS, *results.rules)
    figure, axes = pyplot.subplots(figsize=(9.5, 6.4))
    height = 0.8 / len(rules)
    for place, who in enumerate(rules):
        shares = [100 * results.one(case, who, "rolled back").value for case in cases]
        at = [number + (place - (len(rules) - 1) / 2) * height for number in range(len(cases))]
        axes.barh(at, shares, height * 0.9, color=COLOURS[place % len(COLOURS)], label=who)
        for where, share in zip(at, shares, strict=True):
            text = f"{share:.1f}" if share < 9.95 else f"{share:.0f}"
            axes.text(share + 0.8, where, text, va="center", fontsize=7.5, color="#333333")
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("identical canaries rolled back, % of rollouts")
    axes.set_title("A canary that is no worse than stable: how often each rule rolls it back", loc="left", fontsize=11)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.1), ncols=2, fontsize=9)
    return figure


def _detection(results: Results) -> Figure:
    from matplotlib import pyplot

    cases = results.compared("caught")
    shares = [float(case.removeprefix(PERCENT_OF_CURVE).removesuffix(" %")) for case in cases]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11.5, 4.8))
    for place, who in enumerate((OURS, *results.rules)):
        colour, width = COLOURS[place % len(COLOURS)], 2.6 if who == OURS else 1.4
        caught = [100 * results.one(case, who, "caught").value for case in cases]
        requests = [results.one(case, who, "requests p50").value for case in cases]
        is_jumpy = results.one(SAME_TRAFFIC, who, "rolled back").low > TOLERABLE
        style = {"color": colour, "linewidth": width, "marker": "o", "markersize": 4, "zorder": 3 if who == OURS else 2}
        style["linestyle"] = ":" if is_jumpy else "-"
        right.plot(shares, caught, label=who, **style)
        left.plot(shares, requests, label=who, **style)
    for axes in (left, right):
        _percent_axis(axes, shares)
    left.set_yscale("log")
    left.set_ylabel("canary requests until the rollback (median)")
    left.set_title("How much it costs to see it", loc="left", fontsize=11)
    right.set_ylabel("caught within the rollout, %")
    right.set_ylim(-3, 103)
    right.set_title("How much of it is seen at all", loc="left", fontsize=11)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, fontsize=9, bbox_to_anchor=(0.5, -0.2))
    figure.text(
        0.01,
        0.985,
        "Dotted: rolls back more than 1 % of identical canaries on this traffic",
        fontsize=9,
        color="#555555",
    )
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    return figure


def _percent_axis(axes: Axes, shares: list[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.minorticks_off()
    axes.set_xlabel("the canary's error rate, % (stable: 0.1 %, 50 requests a second)")


def _why_two(results: Results) -> Figure:
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results.curves), figsize=(11.5, 4.6), sharey=True, squeeze=False)
    for axes, curve in zip(panels[0], results.curves, strict=True):
        axes.plot(curve.seconds, 100 * curve.two, color=COLOURS[0], linewidth=2.6, label="two processes (this judge)")
        axes.plot(
            curve.bound_seconds,
            100 * curve.bound,
            color="#444444",
            linestyle="--",
            linewidth=1.4,
            label="the most any single one could catch, all rates known",
        )
        axes.plot(curve.seconds, 100 * curve.one, color=COLOURS[1], linewidth=1.8, label="one process")
        for values, at, colour in (
            (curve.two, curve.two[-1] + 0.035, COLOURS[0]),
            (curve.bound, curve.bound[-1] - 0.035, "#444444"),
            (curve.one, curve.one[-1], COLOURS[1]),
        ):
            axes.text(606, 100 * at, f"{100 * values[-1]:.1f} %", color=colour, va="center", fontsize=9.5)
        axes.set_xlim(0, 600)
        axes.set_ylim(0, 104)
        axes.set_xticks(range(0, 601, 60))
        axes.set_xlabel("seconds since the start (10 % of traffic, 10 more each minute)")
        title = f"{100 * curve.stable:g} % → {100 * curve.canary:g} % errors, 50 requests a second"
        axes.set_title(title, loc="left", fontsize=11)
    panels[0][0].set_ylabel("caught, % of rollouts")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=9.5, bbox_to_anchor=(0.5, -0.08))
    return figure
