"""The embedded API server as a process: who may talk to it, what it leaves behind, when it ends."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config


class Access:
    """What a kubeconfig says about its server."""

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        self.url: str = cluster["server"]
        self.authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.token: str = content["users"][0]["user"]["token"]

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        context = ssl.create_default_context(cadata=self.authority)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, headers=headers), context=context, timeout=10
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_the_kubeconfig_is_for_its_owner_only_and_for_loopback(kubeconfig: Path, embedded: Any) -> None:
    mode = stat.S_IMODE(embedded.kubeconfig.stat().st_mode)

    assert mode == 0o600
    assert re.fullmatch(r"https://127\.0\.0\.1:\d+", Access(kubeconfig).url)
    assert [path.name for path in embedded.kubeconfig.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_token_there_is_only_a_401(kubeconfig: Path, token: str | None) -> None:
    code, body = Access(kubeconfig).get("/api/v1/namespaces", token)

    assert code == 401
    assert json.loads(body)["reason"] == "Unauthorized"


def test_the_token_opens_over_a_strictly_verified_certificate(kubeconfig: Path) -> None:
    access = Access(kubeconfig)

    code, body = access.get("/version", access.token)

    assert code == 200
    assert re.fullmatch(r"v1\.36\.\d+\+canary-sandbox", json.loads(body)["gitVersion"])


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_checks_need_no_token(kubeconfig: Path, path: str) -> None:
    assert Access(kubeconfig).get(path) == (200, "ok")


@pytest.mark.parametrize("path", ["/", "/apis/nothing.example.com/v1", "/api/v1/unicorns", "/api/v1/pods/a/b/c/d"])
def test_an_unknown_path_is_a_404_status(kubeconfig: Path, path: str) -> None:
    access = Access(kubeconfig)

    code, body = access.get(path, access.token)

    assert code == 404
    assert json.loads(body)["kind"] == "Status"


def test_sigterm_ends_it_at_once_even_with_a_watch_open(start_apiserver: Callable[..., Any]) -> None:
    server = start_apiserver()
    with config.new_client_from_config(str(server.kubeconfig)) as api:
        watch = client.CoreV1Api(api).list_namespace(watch=True, _preload_content=False)
        started = time.monotonic()

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(5) == 0
        assert time.monotonic() - started < 3
        watch.close()


def test_it_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    script = (
        "import os, subprocess, sys\n"
        f"command = [sys.executable, '-m', 'canary.sandbox.apiserver', '--kubeconfig', {str(kubeconfig)!r}]\n"
        "process = subprocess.Popen([*command, '--parent-pid', str(os.getpid())], stderr=subprocess.DEVNULL)\n"
        "print(process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    wait_until(kubeconfig.exists, "no kubeconfig")

    parent.kill()
    parent.communicate()

    wait_until(lambda: not _is_running(pid), "the server outlived its parent")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that ended may stay a zombie where nothing reaps it.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_taken_port_is_said_in_one_line(embedded: Any, kubeconfig: Path, tmp_path: Path) -> None:
    port = Access(kubeconfig).url.rpartition(":")[2]
    command = [sys.executable, "-m", "canary.sandbox.apiserver", "--kubeconfig", str(tmp_path / "k"), "--port", port]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert ended.returncode == 1
    assert "cannot serve" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "k").exists()
