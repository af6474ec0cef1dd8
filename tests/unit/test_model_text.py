"""Strangers' text on its way to an object or a screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.model.text import plain


@given(st.text(), st.integers(1, 300))
def test_any_text_becomes_one_printable_line_within_its_limit(text: str, limit: int) -> None:
    shown = plain(text, limit)

    assert shown.isprintable()
    assert len(shown) <= limit


@given(st.text(alphabet=st.characters(categories=["L", "N", "P"])))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert plain(text, len(text) + 1) == text


@pytest.mark.parametrize("hostile", ["\x1b[31mred", "a\r\nb", "\x9b2J", "a\u202eb", "\x00", "a\u2028b", "\ufeffa"])
def test_control_and_direction_characters_become_spaces(hostile: str) -> None:
    assert not set(plain(hostile, 100)) & set("\x1b\r\n\x9b\u202e\x00\u2028\ufeff")


def test_cut_text_says_that_it_was_cut() -> None:
    assert plain("abcdef", 4) == "abc…"
