"""What is wrong on the command line is said before any cluster is asked."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from canary.cli.app import app
from canary.errors import InputError

NOWHERE = {"KUBECONFIG": "/nonexistent/kubeconfig"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "a", "-A"],
        ["status", "a", "-l", "b=c"],
        ["status", "-w", "-o", "json"],
        ["status", "-o", "html"],
        ["status", "a", "b"],
        ["status", "--frob"],
        ["wait"],
        ["wait", "a", "--for", "ever"],
        ["wait", "a", "--timeout", "soon"],
        ["wait", "a", "--timeout", "30"],
        ["start"],
        ["start", "a"],
        ["retry"],
        ["promote"],
        ["abort", "a"],
        ["policy", "show"],
        ["policy", "show", "a", "-o", "html"],
        ["statsu"],
    ],
    ids=" ".join,
)
def test_usage_mistakes_are_exit_2_and_leave_stdout_empty(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments, env=NOWHERE)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["other/payment-v2", "--policy", "standard"], "is neither crol nor deploy"),
        (["crol/payment-v2", "--policy", "standard"], "name the Deployment to release"),
        (["deploy/", "--policy", "standard"], "is not a name"),
        (["/payment-v2", "--policy", "standard"], "is not a name"),
        (["Payment", "--policy", "standard"], "DEPLOYMENT must be a plain name"),
        (["payment-v2", "--policy", "../x"], "--policy must be a plain name"),
        (["payment-v2", "--policy", "standard", "--service", "payment.other"], "--service must be a plain name"),
        (["payment-v2", "--policy", "standard", "--virtual-service", "a/b"], "--virtual-service must be a plain"),
        (["payment-v2", "--policy", "standard", "--release-id", "::set-output name=a"], "--release-id may have"),
        (["payment-v2", "--policy", "standard", "--route", "a\nb"], "--route must be one line"),
    ],
)
def test_a_name_that_could_not_be_right_is_told_in_the_words_of_the_command_line(
    arguments: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(app, ["start", *arguments], env=NOWHERE)

    assert isinstance(result.exception, InputError)
    assert sentence in str(result.exception)
