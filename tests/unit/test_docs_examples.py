"""The examples in the documents run, and print what the documents say they print."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from canary.analysis import comparison
from canary.model.objectives import ERROR_TOLERANCES, LATENCY_TOLERANCES

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n\n^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["verdict.md"])
def test_an_example_prints_what_its_page_says(page: str):
    examples = EXAMPLE.findall((DOCS / page).read_text())

    assert examples
    for code, printed in examples:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), {})
        assert out.getvalue() == printed


def test_the_page_names_the_default_tolerances_as_they_are():
    text = (DOCS / "verdict.md").read_text()

    assert f"`{comparison.tolerance_text(ERROR_TOLERANCES['default'])}`" in text
    assert f"`{comparison.tolerance_text(LATENCY_TOLERANCES['default'])}`" in text
