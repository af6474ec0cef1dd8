"""How a release is described in a Deployment's env, and what the backend makes of it."""

import statistics

import pytest

from canary.sandbox.workloads.backend import VARIABLES, Behaviour


def test_a_release_with_five_percent_errors_is_one_line_of_env():
    assert Behaviour.from_strings({"error_rate": "5%"}).error_rate == 0.05
    assert Behaviour.from_strings({"error_rate": "0.05", "error_code": "500"}).error_code == 500


def test_durations_carry_their_unit():
    behaviour = Behaviour.from_strings({"latency_median": "20ms", "start_delay": "1.5s", "crash_after": "2m"})

    assert (behaviour.latency_median, behaviour.start_delay, behaviour.crash_after) == (0.02, 1.5, 120.0)


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("error_rate", "5", "a share such as 5%"),
        ("error_rate", "nan", "a share such as 5%"),
        ("error_rate", "much", "a share such as 5%"),
        ("error_code", "200", "an HTTP error status"),
        ("latency_median", "20", "a duration such as 20ms"),
        ("latency_median", "-20ms", "a duration such as 20ms"),
        ("latency_factor", "inf", "a number, 0 or more"),
        ("ready", "maybe", "true or false"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_would_be_right(name, text, right):
    with pytest.raises(ValueError, match=f"{name}: '{text}' must be {right}"):
        Behaviour.from_strings({name: text})


def test_an_unknown_field_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"errorrate: unknown; known are error_rate, error_code"):
        Behaviour.from_strings({"errorrate": "5%"})


def test_a_change_while_it_runs_keeps_what_it_does_not_name():
    before = Behaviour.from_strings({"latency_median": "20ms", "error_rate": "5%"})

    after = Behaviour.from_strings({"error_rate": "0"}, before)

    assert (after.latency_median, after.error_rate) == (0.02, 0.0)


def test_every_field_has_its_environment_variable():
    assert {name.lower() for name in VARIABLES} == set(Behaviour.__dataclass_fields__)


def test_latency_has_the_median_it_was_given_and_a_factor_moves_every_percentile():
    usual = Behaviour.from_strings({"latency_median": "20ms"})
    slow = Behaviour.from_strings({"latency_median": "20ms", "latency_factor": "3"})

    assert statistics.median(usual.latency() for _ in range(5000)) == pytest.approx(0.020, rel=0.05)
    assert statistics.median(slow.latency() for _ in range(5000)) == pytest.approx(0.060, rel=0.05)


def test_a_slow_share_leaves_the_median_alone_and_moves_the_tail():
    behaviour = Behaviour.from_strings({"latency_median": "20ms", "slow_share": "5%", "slow_by": "1s"})
    drawn = sorted(behaviour.latency() for _ in range(5000))

    assert drawn[2500] == pytest.approx(0.020, rel=0.1)
    assert drawn[int(5000 * 0.98)] > 1.0


def test_without_a_median_it_answers_at_once():
    assert Behaviour().latency() == 0.0
