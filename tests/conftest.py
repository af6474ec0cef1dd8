"""For every test: the slow ones run last, and property tests never fail for a busy machine's sake."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)  # the same examples at each run: CI tells what changed
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """So that an ordinary failure is seen within seconds. Stable: within each half the order stays."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
