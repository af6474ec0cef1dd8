"""`canary run` as a process: how it starts and ends, its health, its metrics, and who of two may act."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from canary.cluster.kinds import LEASE
from canary.daemon.settings import Settings
from canary.model.rollout import Phase
from tests.pages import page

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
ATTEMPT = "payment-v2-v2a-1"
Start = Callable[..., "subprocess.Popen[str]"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """`canary run` with the shop's namespace; `log(process)` is what it said."""
    processes: list[subprocess.Popen[str]] = []

    def run(**options: str) -> subprocess.Popen[str]:
        given = {
            "kubeconfig": str(settings.kubeconfig), "namespace": str(settings.namespace),
            "own-namespace": settings.own_namespace, "policies": str(settings.policies),
            "prometheus": "http://127.0.0.1:9", "listen": f"127.0.0.1:{free_port()}", "tick": "200ms", **options,
        }  # fmt: skip
        argv = [sys.executable, "-m", "canary.cli.app", "run", *(f"--{name}={value}" for name, value in given.items())]
        with (tmp_path / f"log-{len(processes)}").open("w") as log:
            process = subprocess.Popen(argv, stderr=log, stdout=log, text=True)
        process.listen = given["listen"]  # type: ignore[attr-defined]
        process.log = Path(log.name)  # type: ignore[attr-defined]
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(5)


def ask(process: Any, path: str) -> tuple[int, str]:
    return page(f"http://{process.listen}{path}")


def lines(process: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.log.read_text().splitlines()]


def holders(shop: Any, own_namespace: str) -> set[str]:
    """The names on the Leases: of the slots, and of the members there are."""
    leases, _ = shop.gateway.list(LEASE, own_namespace)
    return {str(lease["spec"].get("holderIdentity") or "") for lease in leases}


def test_it_answers_probes_logs_json_and_ends_within_seconds_giving_its_lease_back(
    released: Any, settings: Settings, start: Start, wait: Callable[..., Any]
) -> None:
    process = start()
    wait(lambda: ask(process, "/readyz") == (200, "ok\n"), what="for /readyz")
    released.release("v2")
    released.stalled(ATTEMPT, "TelemetryUnavailable")

    assert ask(process, "/healthz") == (200, "ok\n")
    assert ask(process, "/other")[0] == 404
    assert "" not in holders(released, settings.own_namespace)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0
    assert time.monotonic() - asked < 8
    assert holders(released, settings.own_namespace) == {""}
    said = lines(process)
    assert said[-1]["event"] == "stopped"
    decisions = [line for line in said if line["event"] == "decision"]
    assert decisions
    for line in decisions:
        assert line["rollout"] == f"{released.namespace}/{ATTEMPT}"
        assert {"step", "reason", "phase", "weight", "level", "timestamp"} <= line.keys()
    assert not [line for line in said if line["level"] in ("error", "critical")]


def test_a_missing_namespace_of_its_own_is_one_clear_error(shop: Any, start: Start) -> None:
    process = start(**{"own-namespace": "nowhere-yet"})

    assert process.wait(20) == 1
    said = process.log.read_text()  # type: ignore[attr-defined]
    assert "namespace nowhere-yet does not exist" in said
    assert "kubectl create namespace nowhere-yet" in said
    assert "Traceback" not in said


def test_an_address_that_is_taken_is_one_clear_error(shop: Any, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(listen=address)

        assert process.wait(20) == 1

    said = process.log.read_text()  # type: ignore[attr-defined]
    assert f"--listen {address}" in said
    assert "Address already in use" in said
    assert "Traceback" not in said


def test_a_folder_that_does_not_exist_is_one_clear_error(shop: Any, start: Start) -> None:
    process = start(policies="/no/such/folder")

    assert process.wait(20) == 1
    said = process.log.read_text()  # type: ignore[attr-defined]
    assert "/no/such/folder" in said
    assert "Traceback" not in said


def test_of_two_controllers_one_drives_a_release_and_the_other_takes_over_when_it_leaves(
    released: Any, settings: Settings, start: Start, wait: Callable[..., Any]
) -> None:
    def acts(process: Any) -> bool:
        return any(line["event"] in ("decision", "rollout created", "mesh write") for line in lines(process))

    first = start()
    wait(lambda: "canary_slots_owned 16.0" in ask(first, "/metrics")[1], what="for the first to own everything")
    second = start()
    wait(lambda: "canary_slots_owned 1.0" in ask(second, "/metrics")[1], what="for the second to be given its first")
    released.release("v2")
    released.stalled(ATTEMPT, "TelemetryUnavailable")

    assert "canary_member_valid 1.0" in ask(second, "/metrics")[1]
    assert acts(first) != acts(second)
    driver, other = (first, second) if acts(first) else (second, first)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(10) == 0

    released.patch_abort(ATTEMPT)
    released.reaches(ATTEMPT, Phase.ABORTED)
    assert [line for line in lines(other) if line["event"] == "decision"]


def test_the_metrics_are_those_that_the_documentation_lists(shop: Any, start: Start, wait: Callable[..., Any]) -> None:
    process = start()
    wait(lambda: ask(process, "/readyz")[0] == 200)

    exposed = dict(re.findall(r"^# TYPE (canary_\w+) (\w+)$", ask(process, "/metrics")[1], re.M))
    exposed = {name: kind for name, kind in exposed.items() if not name.endswith("_created")}

    documented = dict(re.findall(r"^\| `(canary_\w+)` +\| (\w+) ", (REPOSITORY / "docs/metrics.md").read_text(), re.M))
    assert documented == exposed


def test_restarted_in_the_middle_of_a_step_it_goes_on_where_it_was(
    released: Any, counts: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    released.release("v2", policy="slow")
    before = released.until_judged(ATTEMPT)

    controller.stop()
    controller.again()
    controller.ticks(5)

    after = released.rollout(ATTEMPT)
    assert after.status.weight_changes == before.status.weight_changes
    assert after.status.history == before.status.history
    assert released.weights() == {"v1": 50, "v2": 50}
