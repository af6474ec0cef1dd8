"""The commands are listed without being loaded, and `canary status` loads nothing it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from canary.cli.app import COMMANDS, app, load

WRITTEN_HERE = ["status", "wait", "start", "promote", "pause", "resume", "abort", "retry", "policy"]


def modules_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(printed.split())


def test_help_lists_every_command_and_imports_none() -> None:
    result = CliRunner().invoke(app, ["--help"])

    assert result.exit_code == 0
    for name in COMMANDS:
        assert f" {name} " in result.stdout
    loaded = modules_after("from typer.testing import CliRunner; from canary.cli.app import app\n"
                           "assert CliRunner().invoke(app, ['--help']).exit_code == 0")  # fmt: skip
    assert not {entry.module for entry in COMMANDS.values()} & loaded


@pytest.mark.parametrize("name", WRITTEN_HERE)
def test_the_line_in_the_list_is_the_first_line_of_the_commands_own_help(name: str) -> None:
    assert (load(name).help or "").splitlines()[0].startswith(COMMANDS[name].summary)


def test_status_needs_no_models_no_server_and_no_metrics_library() -> None:
    loaded = modules_after("from canary.cli.app import load; load('status')")

    assert "canary.cli.status" in loaded
    assert not loaded & {
        "aiohttp",
        "apscheduler",
        "canary.cli.wait",
        "canary.model.crd",
        "canary.model.policy",
        "canary.model.rollout",
        "prometheus_api_client",
        "prometheus_client",
        "structlog",
        "tenacity",
        "yaml",
    }


def test_an_unknown_command_is_a_usage_error_that_suggests() -> None:
    result = CliRunner().invoke(app, ["statsu"])

    assert result.exit_code == 2


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, "canary 0.1.0\n")


@pytest.mark.parametrize("name", WRITTEN_HERE)
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])

    assert result.exit_code == 0
    assert COMMANDS[name].summary.split(";")[0].split(",")[0] in " ".join(result.stdout.split())
