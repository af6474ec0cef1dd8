"""`canary status` as a person, a pipe and a program see it."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import Shop


def test_a_rollout_is_one_line_with_step_weight_time_left_and_verdict(shop: Shop, running: dict[str, Any]) -> None:
    shop.rollout(**running)

    done = shop.canary("status")

    header, line = done.stdout.splitlines()
    assert header.split() == ["NAME", "SERVICE", "PHASE", "STEP", "WEIGHT", "LEFT", "AGE", "VERDICT"]
    assert re.fullmatch(
        r"payment-v2-abc-1 +payment +Progressing +2/5 +25% \(24%\) +1m[23]\ds +\ds +no breach in 412 requests", line
    )
    assert done.returncode == 0


def test_the_full_view_has_target_stable_policy_and_history(shop: Shop, running: dict[str, Any]) -> None:
    shop.rollout(spec={"trigger": {"by": "cli", "user": "alice", "id": "build-7"}}, **running)

    printed = shop.canary("status", "payment-v2-abc-1").stdout

    facts = dict(re.findall(r"^(\S+(?: \S+)*) {2,}(.*)$", printed, re.MULTILINE))
    assert facts["Target"] == "payment-v2 (revision abc)"
    assert facts["Stable"] == "payment-v1 (subset v1, version=v1)"
    assert facts["Policy"] == f"standard (digest {running['policy']['digest']})"
    assert facts["Started"].endswith("by cli (alice), release build-7")
    assert facts["Step"].startswith("2/5, 1m")
    assert facts["Weight"] == "25% configured, 24% observed"
    assert re.search(r"^ +4\ds ago +Progressing 25%: 25 %, all well$", printed, re.MULTILINE)


def test_bad_input_is_one_line_that_says_what_would_be_right(shop: Shop) -> None:
    shop.rollout(
        phase="Pending",
        conditions=[
            {
                "type": "Stalled",
                "status": "True",
                "reason": "UnknownPolicy",
                "message": "there is no policy speedy; there are: standard, strict",
                "lastTransitionTime": ago(3),
            }
        ],
    )

    assert "Pending" in shop.canary("status").stdout
    assert "there is no policy speedy; there are: standard, strict" in shop.canary("status", "payment-v2").stdout


@pytest.mark.parametrize(
    "name", ["payment-v2", "deploy/payment-v2", "deployment/payment-v2", "crol/payment-v2-abc-2", "payment-v2-abc-2"]
)
def test_a_rollout_goes_by_its_name_and_by_its_deployments(shop: Shop, name: str) -> None:
    shop.rollout("payment-v2-abc-1", phase="RolledBack")
    shop.rollout("payment-v2-abc-2", phase="Succeeded")

    assert shop.canary("status", name, "-o", "name").stdout == "canaryrollout.canary.delivery/payment-v2-abc-2\n"


@pytest.mark.parametrize("name", ["nonesuch", "crol/payment-v2", "deploy/payment-v9"])
def test_an_unknown_name_is_exit_7_and_one_sentence(shop: Shop, name: str) -> None:
    shop.rollout()

    done = shop.canary("status", name)

    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith("there is no ")
    assert len(done.stderr.splitlines()) == 1


def test_a_deployment_without_a_rollout_is_told_how_to_start_one(shop: Shop) -> None:
    shop.deployment()

    done = shop.canary("status", "payment-v2")

    assert done.returncode == 7
    assert "has no rollout yet: canary start payment-v2 --policy standard" in done.stderr


def test_json_and_yaml_are_the_object_as_the_api_server_has_it(shop: Shop, running: dict[str, Any]) -> None:
    shop.rollout(**running)

    document = json.loads(shop.canary("status", "payment-v2", "-o", "json").stdout)

    assert document["kind"] == "CanaryRollout"
    assert document["status"]["weight"] == running["weight"]
    assert yaml.safe_load(shop.canary("status", "payment-v2", "-o", "yaml").stdout) == document
    assert json.loads(shop.canary("status", "-o", "json").stdout)["items"] == [document]


def test_no_rollouts_are_an_empty_result_and_a_word_on_stderr(shop: Shop) -> None:
    done = shop.canary("status")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"no rollouts in namespace {shop.namespace}\n"
    assert json.loads(shop.canary("status", "-o", "json").stdout)["items"] == []


def test_labels_choose_and_all_namespaces_are_told_apart(shop: Shop) -> None:
    shop.rollout("payment-v2-abc-1", labels={"team": "red"}, phase="Succeeded")
    shop.rollout("payment-v2-abc-2", labels={"team": "blue"}, phase="Succeeded")

    chosen = shop.canary("status", "-l", "team=red", "-o", "name").stdout
    everywhere = shop.canary("status", "-A").stdout.splitlines()

    assert chosen == "canaryrollout.canary.delivery/payment-v2-abc-1\n"
    assert everywhere[0].startswith("NAMESPACE")
    assert sum(line.startswith(shop.namespace) for line in everywhere) == 2


def test_wide_adds_target_stable_and_policy(shop: Shop, running: dict[str, Any]) -> None:
    shop.rollout(**running)

    header, line = shop.canary("status", "-o", "wide").stdout.splitlines()

    assert header.split()[-4:] == ["TARGET", "STABLE", "POLICY", "VERDICT"]
    assert " payment-v2  payment-v1  standard " in line


def test_a_missing_controller_is_told_on_stderr_while_something_is_under_way(
    shop: Shop, running: dict[str, Any]
) -> None:
    shop.rollout(**running)

    assert f"no controller lives: there is no Lease {shop.namespace}/canary-member-*" in shop.canary("status").stderr
    shop.controller_lives()
    assert shop.canary("status").stderr == ""


def test_the_default_namespace_is_the_one_of_the_context(shop: Shop, tmp_path: Path) -> None:
    shop.rollout(phase="Succeeded")
    config = yaml.safe_load(shop.kubeconfig.read_text())
    config["contexts"].append(
        {"name": "the-shop", "context": {**config["contexts"][0]["context"], "namespace": shop.namespace}}
    )
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    command = [shop.command()[0], "status", "-o", "name", "--kubeconfig", str(path), "--context", "the-shop"]

    done = subprocess.run(command, env=shop.environment, capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout == "canaryrollout.canary.delivery/payment-v2-abc-1\n"


@pytest.mark.parametrize("content", [None, "", "{", "apiVersion: v1\nkind: Config\n"])
def test_a_kubeconfig_that_cannot_be_used_is_one_sentence_and_exit_1(
    shop: Shop, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)

    done = shop.canary("status", "--kubeconfig", str(path))

    assert (done.returncode, done.stdout) == (1, "")
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_api_server_that_is_away_is_one_sentence_and_exit_1(shop: Shop, tmp_path: Path) -> None:
    config = yaml.safe_load(shop.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))

    done = shop.canary("status", "--kubeconfig", str(path))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cannot list canaryrollouts.canary.delivery")
    assert len(done.stderr.splitlines()) == 1


def test_a_cluster_without_the_crd_says_what_to_apply(shop: Shop, start_apiserver: Callable[..., Any]) -> None:
    done = shop.canary("status", "--kubeconfig", str(start_apiserver().kubeconfig))

    assert done.returncode == 1
    assert "has no CanaryRollout: kubectl apply -f deploy/crd.yaml" in done.stderr


def test_a_usage_mistake_is_exit_2_with_nothing_on_stdout(shop: Shop) -> None:
    done = shop.canary("status", "payment-v2", "-A")

    assert (done.returncode, done.stdout) == (2, "")


def test_watch_in_a_pipe_prints_one_line_per_change_and_ends_with_the_rollout(
    shop: Shop, running: dict[str, Any]
) -> None:
    shop.rollout(**running)

    with shop.begin("status", "payment-v2", "-w") as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]
        shop.status(step={"index": 3, "of": 5}, weight={"desired": 50, "configured": 50, "observed": 50})
        second = process.stdout.readline()
        shop.status(phase="Succeeded", message="promoted")
        third = process.stdout.readline()
        code = process.wait(20)

    assert "25% (24%)" in first[1]
    assert "50% (50%)" in second
    assert "Succeeded" in third
    assert "promoted" in third
    assert code == 0


def test_watch_says_that_the_rollout_was_deleted(shop: Shop, running: dict[str, Any]) -> None:
    from canary.cluster.kinds import CANARYROLLOUT

    shop.rollout(**running)

    with shop.begin("status", "payment-v2", "-w") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        shop.gateway.delete(CANARYROLLOUT, shop.namespace, "payment-v2-abc-1")
        code, complaint = process.wait(20), process.stderr.read() if process.stderr else ""

    assert code == 7
    assert "was deleted" in complaint


def test_ctrl_c_ends_a_watch_without_a_traceback(shop: Shop, running: dict[str, Any]) -> None:
    shop.rollout(**running)

    with shop.begin("status", "-w") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        code, complaint = process.wait(20), process.stderr.read() if process.stderr else ""

    assert code == 130
    assert complaint == ""


def test_a_reader_that_stops_early_is_no_error(shop: Shop) -> None:
    for number in range(3):
        shop.rollout(f"payment-v2-abc-{number}", phase="Succeeded")
    script = f"{' '.join(shop.command('status'))} | head -1; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", script], env=shop.environment, capture_output=True, text=True, timeout=30, check=False
    )

    assert done.stdout.startswith("NAME")
    assert done.stderr == ""


def on_a_terminal(shop: Shop, *arguments: str, columns: int = 80, **environment: str) -> str:
    """What the command writes to a terminal of this width, with its escape sequences."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
    command, variables = shop.command(*arguments), shop.environment | size | environment
    with subprocess.Popen(command, env=variables, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        printed = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return printed.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux' way to say that the other end of a terminal is closed
        return b""


def plain(printed: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed).replace("\r", "").splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_the_sentence_is_wrapped_below_its_line(
    lively_shop: Shop, running: dict[str, Any], columns: int
) -> None:
    sentence = (
        "no breach in 412 requests: 0.2% errors (limit 1%), 0.4% slower than 500ms (limit 1%), stable 0.2% and 0.5%"
    )
    running["verdict"]["sentence"] = sentence
    lively_shop.rollout(**running)

    lines = plain(on_a_terminal(lively_shop, "status", columns=columns))

    assert all(len(line) <= columns for line in lines)
    assert lines[1].startswith("payment-v2-abc-1 ")
    assert sentence in " ".join(" ".join(lines[2:]).split())


def test_colour_is_for_terminals_that_want_it(lively_shop: Shop, running: dict[str, Any]) -> None:
    lively_shop.rollout(**running)

    assert "\x1b[36mProgressing" in on_a_terminal(lively_shop, "status")
    assert "\x1b[36m" not in on_a_terminal(lively_shop, "status", NO_COLOR="1")
    assert "\x1b" not in lively_shop.canary("status").stdout


UNAVOIDABLE = """
import typer, rich.console, kubernetes.client, kubernetes.config
from pydantic import TypeAdapter  # typer's own
kubernetes.client.ApiClient, kubernetes.config.load_kube_config
"""


def test_the_answer_costs_little_more_than_the_libraries_it_cannot_do_without(shop: Shop) -> None:
    """0.35 s to the first output (decisions.md 23) leave us 0.15 s on top of 0.2 s of imports.

    Processor time and a ratio, not a clock: a busy machine must not fail it, a new heavy import must.
    """
    shop.rollout(phase="Succeeded")
    shop.canary("status")  # byte code is written once, at installation

    def spent(command: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=shop.environment, capture_output=True, timeout=30, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(spent([sys.executable, "-c", UNAVOIDABLE]), spent(shop.command("status"))) for _ in range(5)]

    assert min(ours for _, ours in pairs) < 1.6 * min(libraries for libraries, _ in pairs)


def ago(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))
