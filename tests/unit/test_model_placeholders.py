from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.model.objectives import CustomMetric
from canary.model.placeholders import PLACEHOLDERS, check_placeholders, fill

NAMES = {"namespace": "shop", "service": "pay", "canary": "pay-v2", "stable": "pay-v1"}


def test_every_placeholder_is_filled_in_wherever_it_stands() -> None:
    query = 'sum(rate(q{ns="{{namespace}}", app=~"{{canary}}|{{ stable }}", svc="{{service}}"}[{{tile}}]))'

    filled = fill(query, **NAMES, tile=timedelta(seconds=2.5))

    assert filled == 'sum(rate(q{ns="shop", app=~"pay-v2|pay-v1", svc="pay"}[2500ms]))'


def test_a_query_without_placeholders_stays_as_it_is() -> None:
    query = 'sum by (a) (x{b=~"{}"} @ end()) or label_replace(y, "a", "$1", "b", "}}{(.*)")'

    assert fill(query, **NAMES, tile=timedelta(seconds=15)) == query


@pytest.mark.parametrize("query", ["{{deployment}}", "{{Canary}}", "{{}}", "{{canary", "{{ca nary}}", "{{.canary}}"])
def test_an_unknown_placeholder_is_refused_and_the_valid_ones_are_named(query: str) -> None:
    with pytest.raises(ValueError, match="placeholder") as error:
        check_placeholders(f'x{{a="{query}"}}')

    assert all(f"{{{{{name}}}}}" in str(error.value) for name in PLACEHOLDERS)


def test_a_policy_with_an_unknown_placeholder_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValueError, match=r"unknown placeholder \{\{version\}\}; there are \{\{namespace\}\}"):
        CustomMetric.model_validate({"name": "queue", "query": 'sum(q{v="{{version}}"})', "max": 100})


@given(st.text(min_size=1, max_size=20), st.sampled_from(sorted(NAMES)))
def test_a_value_never_ends_the_string_it_stands_in(name: str, placeholder: str) -> None:
    query = f'x{{a="{{{{{placeholder}}}}}"}}'
    try:
        filled = fill(query, **NAMES | {placeholder: name}, tile=timedelta(seconds=1))
    except ValueError as error:
        assert placeholder in str(error)  # noqa: PT017 - whether it is refused depends on the name
        return
    assert filled == f'x{{a="{name}"}}'
    assert not set(name) & set('"\\{}\n`')
    assert name.isascii()


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", 'a"', "a\n", "a" * 254, "a{{tile}}"])
def test_what_is_no_kubernetes_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        fill("x", **NAMES | {"canary": name}, tile=timedelta(seconds=1))
