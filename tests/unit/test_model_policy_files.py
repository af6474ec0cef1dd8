"""Policy files: every shipped one loads, and every mistake is told with file, line, field and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from canary.errors import PolicyError
from canary.model.policy import Policy
from canary.model.policy_yaml import check_policy, parse_policy
from canary.shipped import shipped

SHIPPED = sorted(shipped("policies").glob("*.yaml"))


def mistakes(text: str) -> list[PolicyError]:
    result = check_policy(text, "payment.yaml")
    assert isinstance(result, list), "no mistake was found"
    return result


def the_mistake(text: str) -> PolicyError:
    found = mistakes(text)
    assert len(found) == 1, [str(error) for error in found]
    return found[0]


def test_all_the_policies_that_are_promised_are_shipped() -> None:
    assert {path.stem for path in SHIPPED} == {"standard", "strict", "lenient", "header-only", "fast", "demo"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_policy_loads_and_is_named_like_its_file(path: Path) -> None:
    assert parse_policy(path.read_text(), str(path)).name == path.stem


def test_a_minimal_policy_needs_a_name_and_weights_only() -> None:
    policy = parse_policy("name: small\nstrategy: {weights: [50, 100]}\n", "small.yaml")

    assert policy.strategy.plan == (50, 100)


def test_off_is_a_word_and_true_is_not() -> None:
    text = "name: x\nstrategy: {weights: [100], match: {headers: {a: {exact: on}}, keep: true}}\n"
    policy = parse_policy(f"{text}analysis: {{errorRate: {{vsStable: off}}, p99: {{vsStable: off}}}}\n", "x.yaml")

    assert (policy.analysis.error_rate.vs_stable, policy.analysis.p99.tolerance) == ("off", None)
    assert policy.strategy.match is not None
    assert policy.strategy.match.keep is True
    assert policy.strategy.match.headers["a"].exact == "on"


def test_an_unknown_field_is_named_with_its_line_and_the_fields_there_are() -> None:
    error = the_mistake("name: x\nstrategy:\n  weights: [100]\n  speed: fast\n")

    assert (error.source, error.line, error.field) == ("payment.yaml", 4, "strategy.speed")
    assert str(error) == (
        "payment.yaml:4: strategy.speed: unknown field; known here: "
        "bake, hold, match, pauseAt, progressDeadline, retry, weights, windows"
    )


def test_all_mistakes_are_told_at_once_each_on_its_line() -> None:
    found = mistakes(
        "name: Big\n"
        "strategy:\n"
        "  weights: [10, 100]\n"
        "  hold: 2 minutes\n"
        "analysis:\n"
        "  errorRate: {max: 0.01}\n"
        "  p99:\n"
        "    max: 300ms\n"
        "onDrift: panic\n"
    )

    assert [(error.line, error.field) for error in found] == [
        (1, "name"),
        (4, "strategy.hold"),
        (6, "analysis.errorRate.max"),
        (8, "analysis.p99.max"),
        (9, "onDrift"),
    ]


@pytest.mark.parametrize(
    ("strategy", "line", "field", "right"),
    [
        ("weights: [10, 5, 100]", 3, "strategy.weights", "must rise strictly and end with 100, not [10, 5, 100]"),
        ("weights: [10, 50]", 3, "strategy.weights", "must rise strictly and end with 100, not [10, 50]"),
        ("weights: [50, 50, 100]", 3, "strategy.weights", "must rise strictly"),
        ("weights: [0, 100]", 3, "strategy.weights.0", "greater than or equal to 1, not 0"),
        ("weights: [10, 50, 101]", 3, "strategy.weights.2", "less than or equal to 100, not 101"),
        ("weights: ten", 3, "strategy.weights", "must be a valid tuple, not 'ten'"),
        ("hold: 1m", 2, "strategy", "needs weights, or a match for a header-only canary"),
        ("weights: [50, 100]\n  hold: [1m]", 4, "strategy.hold", "must list one duration per weight: 2, not 1"),
        ("weights: [50, 100]\n  hold: [1m, soon]", 4, "strategy.hold.1", 'a duration like "500ms"'),
        ("weights: [100]\n  pauseAt: [50]", 4, "strategy.pauseAt", "must be among the weights [100], not [50]"),
        ("weights: [100]\n  retry: always", 4, "strategy.retry", "'never' or 'backoff', not 'always'"),
        ("weights: [100]\n  hold: {min: 5m, max: 20s}", 4, "strategy.hold", "min (5m) must be at most max (20s)"),
        ("weights: [100]\n  hold: {min: 5m}", 4, "strategy.hold.max", "is missing"),
        ("weights: [100]\n  hold: {min: 5m, max: soon}", 4, "strategy.hold.max", 'a duration like "500ms"'),
        ("match: {headers: {}}", 3, "strategy.match.headers", "at least 1 item"),
        ("match: {headers: {a: {exact: b, prefix: c}}}", 3, "strategy.match.headers.a", "exactly one of exact"),
        ("match: {headers: {A B: {exact: b}}}", 3, "strategy.match.headers.A B", "the name of a header"),
    ],
)
def test_a_strategy_that_cannot_be_carried_out_is_refused_with_what_would_be_right(
    strategy: str, line: int, field: str, right: str
) -> None:
    error = the_mistake(f"name: x\nstrategy:\n  {strategy}\n")

    assert (error.line, error.field) == (line, field)
    assert right in str(error)


@pytest.mark.parametrize(
    ("analysis", "field", "right"),
    [
        ("errorRate: {max: 1}", "errorRate.max", 'must carry its unit, as in "1%", not 1'),
        ("errorRate: {max: 0%}", "errorRate.max", "no evidence can be weighed against a limit of 0"),
        ("errorRate: {vsStable: harsh}", "errorRate.vsStable", "'default', 'strict', 'lenient' or 'off', not 'harsh'"),
        ("p99: {max: 300ms}", "p99.max", "the nearest are 250ms or 500ms"),
        ("p99: {max: 0.2ms}", "p99.max", "the nearest are 0.5ms"),
        ("p99: {vsStable: {ratio: 0.5, slack: 1%}}", "p99.vsStable.ratio", "greater than or equal to 1, not 0.5"),
        ("grpcErrors: [BROKEN]", "grpcErrors.0", "not 'BROKEN'"),
        ("minRequests: -1", "minRequests", "greater than or equal to 1, not -1"),
        ("confidence: 100%", "confidence", 'at least "50%" and below "100%"'),
        ("warmup: soon", "warmup", 'a duration like "500ms"'),
        ("onInconclusive: shrug", "onInconclusive", "'pause', 'rollback' or 'promote', not 'shrug'"),
        ("harmBudget: {errors: 0}", "harmBudget.errors", "greater than or equal to 1, not 0"),
        ("harmBudget: 50", "harmBudget", "must be a valid dictionary"),
        ("harmBudget: {errors: many}", "harmBudget.errors", "must be a valid integer"),
        ("harmBudget: {errors: 5, error: 5}", "harmBudget.error", "unknown field; known here: errors"),
        ("keepStable: 5", "keepStable", 'must carry its unit, as in "1%", not 5'),
        ("keepStable: 0.5%", "keepStable", 'a whole percentage from "1%" to "50%"'),
        ("keepStable: 51%", "keepStable", 'a whole percentage from "1%" to "50%"'),
        ("frozenBound: often", "frozenBound", "must be a valid boolean"),
        ("metrics: [{name: a, query: up}]", "metrics.0.max", "is missing"),
        ("metrics: [{name: a, query: up, max: .inf}]", "metrics.0.max", "must be a finite number"),
        ('metrics: [{name: a, query: "", max: 1}]', "metrics.0.query", "at least 1 character"),
        ("metrics: [{name: a b, query: up, max: 1}]", "metrics.0.name", "must be a plain name"),
        ("metrics: [{name: a, query: up, max: 1, breaches: 6}]", "metrics.0", "breaches (6) must be at most of (5)"),
        ("metrics: [{name: a, query: up, max: 1}, {name: a, query: x, max: 2}]", "metrics", "a is there twice"),
    ],
)
def test_a_wrong_value_of_the_analysis_is_refused_with_the_valid_ones(analysis: str, field: str, right: str) -> None:
    error = the_mistake(f"name: x\nstrategy: {{weights: [100]}}\nanalysis:\n  {analysis}\n")

    assert (error.line, error.field) == (4, f"analysis.{field}")
    assert right in str(error)


def test_what_stable_keeps_must_be_left_by_every_step() -> None:
    error = the_mistake("name: x\nstrategy:\n  weights: [10, 95, 97, 100]\nanalysis:\n  keepStable: 5%\n")

    assert (error.line, error.field) == (5, "analysis.keepStable")
    assert "leaves the canary 95% in the last step, so every weight before it must be less, not [95, 97]" in str(error)


def test_what_stable_keeps_and_a_frozen_bound_are_one_or_the_other() -> None:
    error = the_mistake("name: x\nstrategy: {weights: [100]}\nanalysis:\n  keepStable: 5%\n  frozenBound: true\n")

    assert (error.line, error.field) == (5, "analysis.frozenBound")
    assert "leave out frozenBound" in str(error)


def test_weights_that_cannot_be_read_are_no_reason_to_complain_of_what_stable_keeps() -> None:
    error = the_mistake("name: x\nstrategy:\n  weights: [99, 10]\nanalysis: {keepStable: 5%}\n")

    assert error.field == "strategy.weights"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('strategy: {weights: [100], windows: ["mon-thu 08:00-16:00 Europe/Oslo"]}', "strategy.windows"),
    ],
)
def test_what_nobody_carries_out_yet_is_refused_and_not_ignored(text: str, field: str) -> None:
    error = the_mistake(f"name: x\n{text}\n")

    assert error.field == field
    assert error.message.startswith("not supported yet: ")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "must be a mapping with name, strategy and analysis"),
        ("- a\n- b\n", 1, "must be a mapping with name, strategy and analysis"),
        ("name: a\nname: b\n", 2, "name is written twice"),
        ("name: x\nstrategy:\n  weights: [100]\n  weights: [50, 100]\n", 4, "weights is written twice"),
        ("name: [\n", 2, ""),
        ("name: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("a: &a [1]\nb: *c\n", 2, "found undefined alias"),
        ("name: x\n", 1, "is missing"),
        ("{[1]: 2}\n", 1, ""),
        ("2: 3\nname: x\nstrategy: {weights: [100]}\n", 1, ""),
    ],
)
def test_what_is_not_a_policy_at_all_is_told_with_its_line(text: str, line: int, message: str) -> None:
    error = mistakes(text)[0]

    assert (error.source, error.line) == ("payment.yaml", line)
    assert message in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "name: x\x07\n",
        "\x00",
        "name: \ud800\n",
        "[" * 5000,
        "name: x\nstrategy: " + "{a: " * 400 + "}" * 400,
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "name: 2026-99-99\n",
        "<<: 3\n",
    ],
    ids=["bell", "nul", "surrogate", "nesting", "braces", "aliases", "date", "merge"],
)
def test_hostile_text_is_a_mistake_and_never_a_crash(text: str) -> None:
    assert all(isinstance(error, PolicyError) for error in mistakes(text))


def test_a_file_that_would_fill_the_memory_is_not_read() -> None:
    assert "larger than 256 KiB" in str(the_mistake("#" * 300_000))


def test_the_first_mistake_is_raised_and_says_how_many_more_there_are() -> None:
    with pytest.raises(PolicyError, match=r"payment.yaml:1: name: .*\(and 1 more\)"):
        parse_policy("name: Big\nstrategy: {weights: [100]}\nonDrift: panic\n", "payment.yaml")


def test_a_mistake_survives_as_its_parts() -> None:
    with pytest.raises(PolicyError) as raised:
        parse_policy("name: x\nstrategy: {weights: [100], bake: long}\n", "a.yaml")

    assert (raised.value.source, raised.value.line, raised.value.field) == ("a.yaml", 2, "strategy.bake")


def test_a_good_file_is_a_policy() -> None:
    assert isinstance(check_policy("name: x\nstrategy: {weights: [100]}\n", "x.yaml"), Policy)
