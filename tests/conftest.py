"""For every test: the slow ones run last, property tests never fail for a busy machine's sake, and it is said how many
ran on a real Kubernetes and how many could not.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from canary.errors import SandboxError
from canary.sandbox.realapi.assets import find_assets

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)  # the same examples at each run: CI tells what changed
settings.load_profile("ci" if os.environ.get("CI") else "here")

REAL = "on a real Kubernetes"
ALL_REAL = Path(__file__).with_name("real")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: needs a real Kubernetes; skipped, with a count, where there is none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """So that an ordinary failure is seen within seconds. Stable: within each half the order stays."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    for item in items:
        if _needs_real(item):
            item.user_properties.append((REAL, True))  # what of a test reaches the summary, also from a worker


def _needs_real(item: pytest.Item) -> bool:
    """Whether it is in tests/real, is the real half of a test on both API servers, or is marked so."""
    parameters = getattr(item, "callspec", None)
    is_half = parameters is not None and parameters.params.get("apiserver") == "real"
    return is_half or ALL_REAL in item.path.parents or item.get_closest_marker("real") is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if (REAL, True) in item.user_properties:
        try:
            assets = find_assets()
            _ = assets.controller_manager, assets.istio_crds
        except SandboxError as error:
            pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The count that nobody overlooks."""
    ran = skipped = 0
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.getreports(outcome):
            if (REAL, True) in getattr(report, "user_properties", ()):
                ran, skipped = (ran, skipped + 1) if outcome == "skipped" else (ran + 1, skipped)
    if not ran and not skipped:
        return
    try:
        program = find_assets().kube_apiserver
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
        sentence, is_good = f"{ran} tests on kube-apiserver {version}; {skipped} skipped", not skipped
    except (SandboxError, OSError, subprocess.SubprocessError) as error:
        sentence, is_good = f"SKIPPED {skipped} TESTS: {error}", False
    terminalreporter.write_sep("=", f"REAL KUBERNETES: {sentence}", green=is_good, red=not is_good, bold=True)
