"""Deliberately broken judges: each must be noticed by the tests that are named beside it, or those tests show nothing.

A copy of the package with one line of its source changed, and these tests against it in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "canary"


@dataclass(frozen=True)
class Mutant:
    """`right` stands once in `module` (in canary/) and becomes `wrong`; one of `noticed_by` must fail then."""

    name: str
    module: str
    right: str
    wrong: str
    noticed_by: tuple[str, ...]


RELATIVE, ERRORS, HEALTH, LATENCY, MIXTURE = (
    "test_analysis_" + name for name in ("relative", "errors", "health", "latency", "mixture")
)

MUTANTS = (
    Mutant(
        "kappa without rho",
        "analysis/relative.py",
        "weighed, log1p = ratio * n_c, math.log1p",
        "weighed, log1p = n_c, math.log1p",
        (f"{RELATIVE}::test_no_window_raises_the_evidence_on_average_within_the_boundary",),
    ),
    Mutant(
        "eps dropped",
        "analysis/relative.py",
        "harm, phi = self._slack * n_c, self._phi",
        "harm, phi = 0.0, self._phi",
        (f"{RELATIVE}::test_no_window_raises_the_evidence_on_average_within_the_boundary",),
    ),
    Mutant(
        "phi multiplied",
        "analysis/relative.py",
        "(s_c * log_x + s_b * log_kappa - harm * more) / phi",
        "(s_c * log_x + s_b * log_kappa - harm * more) * phi",
        (f"{RELATIVE}::test_dividing_by_the_dispersion_keeps_the_bound",),
    ),
    Mutant(
        "phi dropped",
        "analysis/relative.py",
        "(s_c * log_x + s_b * log_kappa - harm * more) / phi",
        "(s_c * log_x + s_b * log_kappa - harm * more)",
        (f"{ERRORS}::test_bursts_in_stables_past_divide_the_evidence",),
    ),
    Mutant(
        "errors of stable forgotten",
        "analysis/relative.py",
        "s_b * log_kappa",
        "0 * log_kappa",
        (f"{RELATIVE}::test_no_window_raises_the_evidence_on_average_within_the_boundary",),
    ),
    Mutant(
        "no one-window rule",
        "analysis/relative.py",
        "self.log_e = log_e - max(0.0, self._largest - ONE_WINDOW_GROWTH)",
        "self.log_e = log_e",
        (f"{RELATIVE}::test_one_odd_window_counts_as_a_factor_of_six_at_most",),
    ),
    Mutant(
        "windows put together across steps",
        "analysis/relative.py",
        "        if step != self._step:\n            self._step, self._canary",
        "        if self._step is None:\n            self._step, self._canary",
        (f"{RELATIVE}::test_what_waited_for_the_other_arm_does_not_go_over_into_another_step",),
    ),
    Mutant(
        "no cap",
        "analysis/mixture.py",
        "increment if increment < cap else cap",
        "increment",
        (f"{RELATIVE}::test_the_cap_can_only_lower_the_evidence",),
    ),
    Mutant(
        "no fixed share",
        "analysis/mixture.py",
        "                self._deal_again(FIXED_SHARE)\n",
        "                pass\n",
        (f"{RELATIVE}::test_dealing_afresh_at_a_new_step_neither_makes_nor_loses_evidence",),
    ),
    Mutant(
        "never dealt afresh within a step",
        "analysis/mixture.py",
        "            self._deal_again(MINUTE_SHARE)\n",
        "            pass\n",
        (f"{MIXTURE}::test_a_release_that_turns_bad_after_long_health_is_convicted_in_seconds",),
    ),
    Mutant(
        "alpha not split",
        "model/objectives.py",
        "return (1 - self.confidence) / 2",
        "return 1 - self.confidence",
        (f"{ERRORS}::test_confidence_sets_how_much_evidence_is_asked_for",),
    ),
    Mutant(
        "T decides at 1",
        "analysis/errors.py",
        "BEYOND_LIMIT = 5.0",
        "BEYOND_LIMIT = 1.0",
        (f"{ERRORS}::test_a_release_worse_than_stable_is_rolled_back_with_both_answers_in_the_sentence",),
    ),
    Mutant(
        "T not asked",
        "analysis/errors.py",
        "if self.worse >= self._worse.mixture.limit and self.beyond >= BEYOND_LIMIT:",
        "if self.worse >= self._worse.mixture.limit:",
        (f"{ERRORS}::test_a_release_proven_worse_but_within_the_tolerance_holds_and_says_that_it_is_tolerated",),
    ),
    Mutant(
        "no hold near a breach",
        "analysis/errors.py",
        "if not self._is_asked or self.worse < PASSES_BELOW:",
        "if not self._is_asked or self.worse < 1e9:",
        (f"{ERRORS}::test_a_step_does_not_end_while_the_evidence_is_near_a_breach_and_goes_on_once_it_has_gone",),
    ),
    Mutant(
        "harm without evidence",
        "analysis/errors.py",
        "if self.harm > self._harm_budget and self.worse >= HARM_NEEDS:",
        "if self.harm > self._harm_budget:",
        (f"{ERRORS}::test_an_excess_that_chance_explains_spends_no_budget",),
    ),
    Mutant(
        "g of the pass process swapped",
        "analysis/health.py",
        "_MULTIPLES = (0.0, 0.1, 0.25, 0.5, 0.75)",
        "_MULTIPLES = (10.0, 4.0, 2.0, 1.5, 1.25)",
        (f"{HEALTH}::test_without_an_error_it_takes_385_canary_requests_at_10_percent_and_418_at_50",),
    ),
    Mutant(
        "slack of the pass process dropped",
        "analysis/health.py",
        "RATIO, SLACK = 2.0, 0.01",
        "RATIO, SLACK = 2.0, 0.02",
        (f"{HEALTH}::test_no_window_raises_it_on_average_while_the_canary_is_twice_as_bad_and_a_percent_or_worse",),
    ),
    Mutant(
        "the loudest bound instead of the average",
        "analysis/latency.py",
        "log_sum(logs) - math.log(len(logs))",
        "max(logs)",
        (f"{LATENCY}::test_the_evidence_is_the_average_over_the_bounds_under_the_one_window_rule",),
    ),
    Mutant(
        "the warm-up judged",
        "analysis/judge.py",
        "            self._cold_since = None\n            self._witnesses.observe(window)\n",
        "            self._cold_since = None\n        self._witnesses.observe(window)\n        if window.warm:\n"
        "            pass\n",
        (f"{ERRORS}::test_windows_of_the_warm_up_are_no_evidence",),
    ),
    Mutant(
        "debug users compared",
        "analysis/witness.py",
        "return step != HEADER_STEP and weight < FULL_WEIGHT",
        "return weight < FULL_WEIGHT",
        (f"{ERRORS}::test_debug_users_are_not_compared_with_everybody_else",),
    ),
    Mutant(
        "every dispersion counts",
        "analysis/baseline.py",
        "return found if found > by_chance else None",
        "return found",
        ("test_analysis_baseline::test_independent_errors_are_taken_for_what_they_are",),
    ),
    Mutant(
        "the point estimate frozen",
        "analysis/frozen.py",
        "most = upper_bound(self._stable_total, self._stable_bad, UCB_ALPHA)",
        "most = self._stable_bad / max(1, self._stable_total)",
        ("test_analysis_frozen::test_a_short_look_at_stable_is_no_reason_to_convict",),
    ),
    Mutant(
        "noise is evidence",
        "analysis/under_noise.py",
        "                witness.skip(window)\n",
        "                witness.observe(window)\n",
        ("test_analysis_under_noise::test_what_was_slow_under_noise_is_never_held_against_the_canary_afterwards",),
    ),
    Mutant(
        "a figure of the state forgotten",
        "analysis/state.py",
        '"_before": _Real, "_largest": _Real, "log_e": _Real',
        '"_before": _Real, "log_e": _Real',
        ("test_analysis_state::test_a_judge_in_the_middle_of_noise_is_read_back_with_what_it_heard",),
    ),
)


def package(folder: Path, mutant: Mutant | None) -> Path:
    """A package `canary` in `folder`: links to the real one, but for the changed line."""
    changed = PACKAGE / mutant.module if mutant else None
    for source in PACKAGE.rglob("*.py"):
        link = folder / "canary" / source.relative_to(PACKAGE)
        link.parent.mkdir(parents=True, exist_ok=True)
        if mutant and source == changed:
            text = source.read_text()
            assert text.count(mutant.right) == 1, f"{mutant.module} has changed: correct the mutant {mutant.name!r}"
            link.write_text(text.replace(mutant.right, mutant.wrong))
        else:
            link.symlink_to(source)
    return folder


def run(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """These tests against the package in `folder`."""
    nodes = [str(REPOSITORY / "tests" / "unit" / test.replace("::", ".py::", 1)) for test in tests]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-c", str(REPOSITORY / "pyproject.toml")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(REPOSITORY), *nodes],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "CI": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_the_tests_that_notice_mutants_pass_on_the_judge_itself(tmp_path: Path):
    named = {test for mutant in MUTANTS for test in mutant.noticed_by}

    ran = run(package(tmp_path, None), tuple(sorted(named)))

    assert ran.returncode == 0, ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_judge_is_noticed(mutant: Mutant, tmp_path: Path):
    ran = run(package(tmp_path, mutant), mutant.noticed_by)

    assert ran.returncode == 1, f"{mutant.name} survived, or did not run:\n{ran.stdout}{ran.stderr}"
    assert "AssertionError" in ran.stdout or "assert" in ran.stdout
