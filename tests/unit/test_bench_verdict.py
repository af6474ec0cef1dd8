"""The simulator itself: is its traffic what it says, are its two writings of the formulas one, are its rivals fair?

And the same seed must give the same figures.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bench.verdict import rivals, why_two
from bench.verdict.__main__ import main
from bench.verdict.disturbances import ArmNoise, BadPods, Blip, Bursts, ColdStart, Drift, Outage, Shares
from bench.verdict.drive import START, Driving, counts_of, drive
from bench.verdict.figures import Mean, Quantile, Share, Target, clopper_pearson
from bench.verdict.policies import policy
from bench.verdict.reference import dispersion, latency_trace, trace
from bench.verdict.run import OURS, run
from bench.verdict.scenarios import Case, caught, false_rollbacks, target_rows
from bench.verdict.traffic import BUCKETS_MS, Arm, Clumps, Drawn, Latency, Plan, Traffic, draw
from canary.analysis import Judge
from canary.analysis.baseline import baseline_of
from canary.model.verdict import Outcome, Window

SHORT = Plan(weights=(10, 50, 100), hold_s=30.0)


def drawn_by(traffic: Traffic, plan: Plan = SHORT, rollouts: int = 200, seed: int = 1) -> Drawn:
    return draw(traffic, plan, rollouts, np.random.default_rng(seed))


def rate(arm: Arm, where: slice = slice(None)) -> float:
    return float(arm.errors[:, where].sum() / arm.requests[:, where].sum())


def by_hand(requests: list[int], errors: list[int], stable: tuple[list[int], list[int]] | None = None) -> Drawn:
    """One rollout whose ticks of 10 s are windows too, at 50 %."""
    plan = Plan(weights=(50,), hold_s=10.0 * len(requests), window_s=10.0, tick_s=10.0)

    def arm(total: list[int], bad: list[int]) -> Arm:
        timed = np.array([total]) - np.array([bad])
        return Arm(np.array([total]), np.array([bad]), timed, np.zeros((1, len(total), len(BUCKETS_MS)), dtype=int))

    beside = stable or (requests, [0] * len(requests))
    return Drawn(plan, arm(requests, errors), arm(*beside), arm(*beside), plan.tick_weights)


def tick_of(rule: rivals.Rule, drawn: Drawn) -> int:
    return int(rule.rolls_back_at(drawn)[0])


def test_requests_follow_the_rate_and_the_weights() -> None:
    drawn = drawn_by(Traffic(rps=50))

    per_tick = 50 * SHORT.tick_s
    for step, weight in enumerate((0.1, 0.5, 1.0)):
        ticks = slice(15 * step, 15 * step + 15)
        assert drawn.canary.requests[:, ticks].mean() == pytest.approx(per_tick * weight, rel=0.02)
        assert drawn.stable.requests[:, ticks].mean() == pytest.approx(per_tick * (1 - weight), rel=0.02, abs=0)
    assert drawn.before.requests.sum(axis=1).mean() == pytest.approx(50 * 600, rel=0.01)
    assert drawn.canary.requests.var() > 0


def test_errors_come_at_each_versions_share_from_the_step_that_was_asked() -> None:
    drawn = drawn_by(Traffic(rps=200, base=0.01, canary=0.2, bad_from_step=2))

    assert rate(drawn.stable) == pytest.approx(0.01, rel=0.1)
    assert rate(drawn.before) == pytest.approx(0.01, rel=0.1)
    assert rate(drawn.canary, slice(0, 15)) == pytest.approx(0.01, rel=0.25)
    assert rate(drawn.canary, slice(15, None)) == pytest.approx(0.2, rel=0.03)


def test_latency_is_lognormal_in_istios_buckets_and_leaves_errors_out() -> None:
    same, slow = Latency(), Latency(median_ms=75)
    drawn = drawn_by(Traffic(rps=500, base=0.1, canary_latency=slow))

    assert (drawn.canary.timed == drawn.canary.requests - drawn.canary.errors).all()
    for bound, stable_share, canary_share in ((100.0, 0.193, 0.360), (250.0, 0.0221, 0.0661)):
        place = int(np.searchsorted(BUCKETS_MS, bound))
        assert same.slower_than(bound) == pytest.approx(stable_share, abs=0.001)
        assert drawn.stable.slower[:, :, place].sum() / drawn.stable.timed.sum() == pytest.approx(
            stable_share, rel=0.03
        )
        assert drawn.canary.slower[:, :, place].sum() / drawn.canary.timed.sum() == pytest.approx(
            canary_share, rel=0.03
        )
    assert (np.diff(drawn.canary.slower, axis=2) <= 0).all()


def test_clumps_keep_the_rate_and_show_in_the_dispersion() -> None:
    users = drawn_by(Traffic(base=0.01, clumps=Clumps(size=5)))
    tries = drawn_by(Traffic(base=0.01, clumps=Clumps(attempts=3)))

    assert rate(users.before) == pytest.approx(0.01, rel=0.1)
    assert (users.before.errors % 5 == 0).all()
    assert dispersion(users.before.errors, users.before.requests, 6.0).mean() == pytest.approx(5, rel=0.15)
    assert dispersion(tries.before.errors, tries.before.requests, 6.0).mean() == pytest.approx(3, rel=0.15)


def shares(rollouts: int = 400, ticks: int = 300) -> Shares:
    return Shares(np.full((rollouts, ticks), 0.01), np.full((rollouts, ticks), 0.01), 2.0, 3, 270)


def test_disturbances_move_the_shares_as_they_say() -> None:
    rng = np.random.default_rng(3)

    out = shares()
    Outage(30.0).during(out, rng)
    assert ((out.canary == 1).sum(axis=1) == 15).all()
    assert (out.canary == out.stable).all()

    burst = shares()
    Bursts(0.03, 0.2).during(burst, rng)
    assert (burst.canary == 0.2).mean() == pytest.approx(0.03, rel=0.15)

    noise = shares()
    ArmNoise(5).during(noise, rng)
    assert noise.canary.mean() == pytest.approx(0.01, rel=0.05)
    assert noise.canary.std() / noise.canary.mean() == pytest.approx(1, rel=0.1)
    assert (noise.canary[:, :15] == noise.canary[:, :1]).all()
    assert not (noise.canary == noise.stable).any()

    drift = shares()
    Drift(3.0).during(drift, rng)
    assert drift.stable[0, -1] == pytest.approx(0.03)

    blip = shares()
    Blip().during(blip, rng)
    assert ((blip.canary != 0.01).sum(axis=1) == 3).all()
    assert (blip.canary[:, 270:] == 0.01).all()
    assert (blip.stable == 0.01).all()

    pods = shares()
    BadPods(pods=10, every_s=1200, lasting_s=30, share=0.2).during(pods, rng)
    assert pods.canary.mean() - 0.01 == pytest.approx(0.2 * 30 / 1230, rel=0.15)


def test_a_single_event_is_not_in_the_history_and_a_lasting_trait_is() -> None:
    rng = np.random.default_rng(3)
    for event in (Outage(), Bursts(), ColdStart(), Drift(), Blip()):
        quiet = shares()
        event.before(quiet, rng)
        assert (quiet.stable == 0.01).all()
    for trait in (ArmNoise(), BadPods()):
        noisy = shares()
        trait.before(noisy, rng)
        assert (noisy.stable != 0.01).any()


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(base=0.01),
        Traffic(rps=3, base=0.05),  # windows without canary requests have to wait for others
        Traffic(base=0.01, disturbances=(ArmNoise(5),)),
        Traffic(base=0.001, canary=0.01, bad_from_step=2),
        Traffic(canary_latency=Latency(sigma=0.95)),
    ],
    ids=["same", "few", "noisy", "bad", "slow"],
)
def test_the_judge_and_the_second_writing_of_its_formulas_agree(traffic: Traffic) -> None:
    plan = Plan(weights=(10, 30, 50, 80, 100), hold_s=60.0)
    drawn, rules = drawn_by(traffic, plan, rollouts=4), policy("relative", plan)
    arms = [arm.by_window(plan.ticks_per_window) for arm in (drawn.canary, drawn.stable)]
    steps = np.repeat(np.arange(1, 6), plan.windows_per_step)
    phi = dispersion(drawn.before.errors, drawn.before.requests, plan.window_s)
    expected = trace((arms[0].requests, arms[0].errors, arms[1].requests, arms[1].errors), steps, phi)
    compared = 0

    for rollout, tiles in enumerate(counts_of(drawn.before, list(BUCKETS_MS))):
        baseline = baseline_of(tiles, plan.window_s, rules)
        assert baseline.errors_phi == pytest.approx(phi[rollout], rel=1e-12)
        judge = Judge(rules, baseline)
        bounds = sorted(judge.bounds)
        places = np.searchsorted(BUCKETS_MS, bounds)
        slow = [arm.of(rollout).slower[:, :, places] for arm in arms]
        timed = [arm.of(rollout).timed for arm in arms]
        latency_phi = np.array(
            [[dispersion(*_history(drawn.before.of(rollout), place), plan.window_s)[0] for place in places]]
        )
        _, latency = latency_trace((timed[0], timed[1]), (slow[0], slow[1]), steps, latency_phi)
        counts = [counts_of(arm.of(rollout), bounds)[0] for arm in arms]
        for place, (canary, stable) in enumerate(zip(*counts, strict=True)):
            end = START + 6.0 * (place + 1)
            step = int(steps[place])
            window = Window(end - 6.0, end, step, plan.weights[step - 1], canary, stable)
            verdict = judge.observe(window, end)
            found = {entry.metric: math.log(entry.e_value) for entry in verdict.evidence}
            assert found["error_rate_vs_stable"] == pytest.approx(expected.worse_starred[rollout, place], abs=1e-9)
            assert found["error_rate_vs_tolerated"] == pytest.approx(expected.tolerated[rollout, place], abs=1e-9)
            assert found["pass"] == pytest.approx(expected.passing[rollout, place], abs=1e-9)
            assert found["latency_vs_stable"] == pytest.approx(latency[0, place], abs=1e-9)
            compared += 1
            is_caught = bool(expected.fails[rollout, place]) or latency[0, place] >= math.log(200)
            assert (verdict.outcome is Outcome.FAIL) == is_caught
            if is_caught:
                break

    assert compared > 40


def _history(before: Arm, place: int) -> tuple[np.ndarray, np.ndarray]:
    return before.slower[:, :, place], before.timed


def test_a_total_failure_is_aborted_at_the_first_look_and_an_outage_of_both_is_none_of_the_canarys() -> None:
    seeds, plan = np.random.SeedSequence(5).spawn(20), Plan(weights=(30, 50, 100), hold_s=30.0)
    failing = Traffic(canary=1.0)
    ends = drive(drawn_by(failing, plan, rollouts=20), failing, Driving(), seeds)
    assert ends["rolled_back"].all()
    assert (ends["reason"] == "fast_abort").all()
    assert (ends["seconds"] == 2).all()

    outage = Traffic(disturbances=(Outage(),))
    ends = drive(drawn_by(outage, plan, rollouts=20), outage, Driving(), seeds)
    assert not ends["rolled_back"].any()
    assert np.isinf(ends["seconds"]).all()

    alone = Traffic(disturbances=(Outage(at_full_weight=True),))
    assert drive(drawn_by(alone, plan, rollouts=20), alone, Driving(), seeds)["rolled_back"].all()


def test_a_step_is_held_for_its_pass_and_a_service_with_too_few_requests_pauses() -> None:
    seeds, holding = np.random.SeedSequence(5).spawn(10), Driving(with_hold=True)
    healthy = Traffic()
    ends = drive(drawn_by(healthy, rollouts=10), healthy, holding, seeds)
    assert not ends["paused"].any()
    assert (ends["held_for_pass_s"] > 0).all()  # 30 s at 5 requests a second are not 385 requests

    idle = Traffic(rps=2)
    ends = drive(drawn_by(idle, rollouts=10), idle, holding, seeds)
    assert ends["paused"].all()
    assert not ends["rolled_back"].any()
    assert (ends["held_for_pass_s"] + ends["held_by_doubt_s"] == 600).all()


def test_flaggers_failed_checks_add_up_and_the_check_after_the_last_one_rolls_back() -> None:
    rule = rivals.FixedThreshold("flagger", over_s=10.0, failures=3)
    bad, good = 2, 0

    assert tick_of(rule, by_hand([100] * 8, [bad, good, bad, good, good, bad, good, good])) == 6
    assert tick_of(rule, by_hand([100] * 8, [bad, good, bad, good, good, 1, good, good])) == rivals.NO_TICK
    assert tick_of(rule, by_hand([100, 0, 0, 0, 100], [good] * 5)) == 4  # no traffic is a failed check
    assert tick_of(rule, by_hand([100] * 3, [bad] * 3)) == rivals.NO_TICK  # the plan was over first


def test_argos_failure_limit_of_zero_aborts_at_the_first_bad_interval_and_looks_back_thirty_seconds() -> None:
    rule = next(rule for rule in rivals.RULES if rule.name.startswith("Argo"))

    assert tick_of(rule, by_hand([100] * 6, [0, 0, 0, 4, 0, 0])) == 3
    assert tick_of(rule, by_hand([100] * 6, [0, 0, 0, 3, 0, 0])) == rivals.NO_TICK
    assert tick_of(rule, by_hand([0, 0, 0], [0, 0, 0])) == rivals.NO_TICK


def test_a_p99_over_its_limit_is_a_failed_check() -> None:
    rule = rivals.FixedThreshold("flagger", over_s=10.0, failures=1, one_more_interval=False)
    drawn = by_hand([100] * 3, [0] * 3)
    place = int(np.searchsorted(BUCKETS_MS, 500.0))

    drawn.canary.slower[0, :, place] = [1, 2, 0]

    assert tick_of(rule, drawn) == 1


def test_twice_as_bad_in_one_window_is_enough_for_the_rule_that_asks_just_that() -> None:
    rule = rivals.TwiceStable()

    assert tick_of(rule, by_hand([10, 10, 10], [0, 1, 3], ([90] * 3, [0, 5, 13]))) == 2
    assert tick_of(rule, by_hand([10, 10], [1, 2], ([90] * 2, [5, 9]))) == rivals.NO_TICK
    assert tick_of(rule, by_hand([10], [1], ([90], [0]))) == 0


def test_mann_whitney_needs_windows_enough_and_a_shift() -> None:
    pytest.importorskip("scipy", reason="comes with `scripts/setup bench`")
    rule = rivals.MannWhitney()
    worse = by_hand(
        [100] * 12, [5, 6, 7, 5, 6, 8, 7, 6, 5, 6, 7, 9], ([100] * 12, [1, 0, 2, 1, 1, 0, 2, 1, 0, 1, 2, 1])
    )

    # all of five above all of five: p = Phi(-(12.5 - 0.5) / 4.7...) = 0.6 %; ties make it a little different
    assert tick_of(rule, worse) == 4
    same = by_hand([100] * 12, [1, 0, 2, 1, 1, 0, 2, 1, 0, 1, 2, 1], ([100] * 12, [1, 0, 2, 1, 1, 0, 2, 1, 0, 1, 2, 1]))
    assert tick_of(rule, same) == rivals.NO_TICK
    assert tick_of(rule, by_hand([100] * 12, [0] * 12)) == rivals.NO_TICK


def test_the_best_possible_test_of_no_difference_is_its_level_and_grows_with_the_traffic() -> None:
    bound = pytest.importorskip("bench.verdict.bound")
    few = bound.regression(0.001, 0.005, 50, (10, 20), 60.0)
    many = bound.regression(0.001, 0.005, 500, (10, 20), 60.0)
    truth = [(0.005, 0.001)] * 2

    assert bound.power(few, [(0.005001, 0.001)] * 2, 0.05) == pytest.approx(0.05, abs=0.002)
    assert bound.power(few, [(0.002, 0.0015)] * 2, 0.005) < bound.power(many, [(0.002, 0.0015)] * 2, 0.005)
    assert bound.power(many, [(0.002, 0.0015)] * 2, 0.005) > 0.99
    assert bound.power(few, truth, 0.05) == pytest.approx(0.05, abs=1e-6)


def test_figures_have_exact_intervals_and_never_forget_who_was_not_caught() -> None:
    ends = np.zeros(4, dtype=drive_dtype())
    ends["rolled_back"] = [True, True, True, False]
    ends["requests"] = [10, 20, 30, np.inf]
    ends["held_by_doubt_s"] = [0, 0, 0, 8]

    assert Share("caught").of(ends).value == 0.75
    assert Quantile("p50", "requests", 0.5, "requests").of(ends).value == 20
    assert math.isinf(Quantile("p90", "requests", 0.9, "requests").of(ends).value)
    assert Mean("held", "held_by_doubt_s").of(ends).value == 2
    assert clopper_pearson(0, 2000) == (0.0, pytest.approx(0.0018427, abs=1e-6))  # scipy.stats.binomtest
    assert clopper_pearson(7, 25) == (pytest.approx(0.1207167, abs=1e-6), pytest.approx(0.4938768, abs=1e-6))
    assert Target(Share("caught"), at_least=0.8).is_met(Share("caught").of(ends)) is False
    assert Target(Share("caught"), at_most=0.8).is_met(Share("caught").of(ends)) is True
    assert Target(Share("caught")).is_met(Share("caught").of(ends)) is None


def drive_dtype() -> np.dtype:
    from bench.verdict.drive import ENDING

    return ENDING


def small_cases() -> tuple[Case, ...]:
    bad = Case("3", "bad", Traffic(canary=0.05), (caught(1.0),), plan=SHORT, rules=rivals.RULES[:2])
    return bad, Case("1", "same", Traffic(), (false_rollbacks(0.005),), Driving(with_hold=True), SHORT)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_endings_on_any_number_of_processes() -> None:
    alone, shared = (run(small_cases(), 7, standard=60, processes=count) for count in (1, 2))

    assert alone.keys() == shared.keys()
    for key, by_whom in alone.items():
        assert set(by_whom) == set(shared[key])
        for who, ends in by_whom.items():
            np.testing.assert_array_equal(ends, shared[key][who])
    other = run(small_cases()[:1], 8, standard=60, processes=1)
    assert (other["3: bad"][OURS] != alone["3: bad"][OURS]).any()


def test_every_case_has_a_name_of_its_own_and_a_figure() -> None:
    from bench.verdict.more_scenarios import open_cases, rival_cases

    others = [case for case in rival_cases() if case.row == "rivals"]
    cases = (*target_rows(), *others, *open_cases())
    keys = [case.key for case in cases]

    assert len(set(keys)) == len(keys)
    assert all(case.targets for case in cases)
    assert {case.row for case in target_rows()} == {str(number) for number in range(1, 11)}


@pytest.mark.slow
def test_a_quick_run_prints_the_table_and_writes_it(
    tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="comes with `scripts/setup bench`")
    monkeypatch.setenv("COLUMNS", "200")

    assert main(["--rows", "3", "--quick", "--processes", "1", "--out", str(tmp_path)]) == 0

    shown = capsys.readouterr().out
    assert "requests p50" in shown
    assert "µs of processor time" in shown
    page = (tmp_path / "bench-verdict.md").read_text()
    assert "| → 5 % | relative | 40 | caught | 100.00 % (91.19 to 100.00) | ≥ 100 % | met |" in page
    assert "processor" not in page
    document = json.loads((tmp_path / "bench-verdict.json").read_text())
    assert document["seed"] == 1
    assert {line["figure"] for line in document["figures"]} >= {"caught", "requests p90", "errors p50"}


def test_an_unknown_row_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "3,twelve"]) == 2
    assert "twelve" in capsys.readouterr().err


def test_the_page_about_two_processes_gets_its_figures_between_its_marks(tmp_path) -> None:
    from bench.verdict.curves import Curve
    from bench.verdict.results import Results

    at = np.array([60.0, 600.0])
    curve = Curve(0.001, 0.005, at, at / 700, at / 900, at, at / 650, 0.99, 0.998, 0.999)
    page = tmp_path / why_two.PAGE
    page.write_text(f"before\n{why_two.START}\nold\n{why_two.END}\nafter\n")

    why_two.renew(page, Results("abc1234", 1, 2000, (), (curve,)))

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "85.7 %" in text
    assert "abc1234" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="must have one"):
        why_two.renew(page, Results("abc1234", 1, 2000, (), (replace(curve),)))
