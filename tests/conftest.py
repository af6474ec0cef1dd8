"""For every test: the slow ones run last, so that an ordinary failure is seen within seconds."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: within each half the order stays, module fixtures are shared as before."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
