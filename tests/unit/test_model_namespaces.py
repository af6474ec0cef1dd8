"""Which namespaces a policy is for."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.model.namespaces import is_among
from canary.model.policy_yaml import check_policy

LETTERS = st.text("ab-", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("shop", "shop", True),
        ("shop", "shop-2", False),
        ("*", "anything", True),
        ("team-*", "team-a", True),
        ("team-*", "my-team-a", False),
        ("*-prod", "shop-prod", True),
        ("*-prod", "shop-prod-2", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-b-c", True),
        ("a**c", "abc", True),
    ],
)
def test_a_star_stands_for_any_characters_and_everything_else_for_itself(glob: str, name: str, expected: bool) -> None:
    assert is_among(name, ["nobody", glob]) is expected


@given(LETTERS, st.text("ab-*", min_size=1, max_size=8))
def test_it_says_what_a_regular_expression_would(name: str, glob: str) -> None:
    pattern = ".*".join(re.escape(part) for part in glob.split("*"))

    assert is_among(name, [glob]) is (re.fullmatch(pattern, name) is not None)


def test_many_stars_cost_no_time() -> None:
    started = time.process_time()

    assert not is_among("a" * 62 + "b", ["a*" * 31 + "c"])

    assert time.process_time() - started < 1


@pytest.mark.parametrize("glob", ["Team", "team_a", "team.*", "team-?", "[a]", "", "-a", "a" * 64])
def test_what_can_be_no_namespace_is_a_mistake_of_the_file(glob: str) -> None:
    found = check_policy(f"name: x\nstrategy: {{weights: [100]}}\nallowedNamespaces: ['{glob}']\n", "x.yaml")

    assert isinstance(found, list)
    assert found[0].line == 3


def test_a_policy_says_where_it_may_be_used() -> None:
    found = check_policy("name: x\nstrategy: {weights: [100]}\nallowedNamespaces: [sandbox, team-*]\n", "x.yaml")

    assert not isinstance(found, list)
    assert [found.may_be_used_in(name) for name in ("sandbox", "team-a", "prod")] == [True, True, False]
