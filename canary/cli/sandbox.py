"""`canary sandbox up|down`: a cluster on this machine, in one folder, that leaves nothing behind.

The process of `up` is the parent of every part; it ends them when it is told to, and the kernel does when it is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canary.cli.lastwords import stop_with_last_words
from canary.cli.options import duration
from canary.cli.terminal import complain, say
from canary.errors import SandboxError
from canary.model.units import format_duration

if TYPE_CHECKING:
    from canary.sandbox.cluster import Sandbox

_START_SECONDS = 120.0
_POLL_SECONDS = 0.1
_SAYS = "sandbox: "
"""Before every line about its parts."""

Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        envvar="CANARY_SANDBOX_DIR",
        help="Its folder, made and removed with it; default: canary-sandbox in $XDG_RUNTIME_DIR or ~/.cache.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="A cluster on this machine, with real Envoy and Prometheus.")
    commands.command("up")(up)
    commands.command("down")(down)
    app.add_typer(commands, name="sandbox")


def up(
    *,
    directory: Directory = None,
    rate: Annotated[float, typer.Option(min=0, max=5000, help="Requests per second of its callers; 0: none.")] = 300,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where Envoy takes requests; 0: a free one.")] = 0,
    prometheus_port: Annotated[int, typer.Option(min=0, max=65535, help="Prometheus's; 0: a free one.")] = 0,
    scrape_interval: Annotated[
        timedelta, typer.Option(parser=duration, metavar="DURATION", help="How often Prometheus scrapes Envoy.")
    ] = "1s",  # type: ignore[assignment]
    controller: Annotated[
        bool, typer.Option("--controller/--no-controller", help="Run the controller too, or leave that to you.")
    ] = True,
    policies: Annotated[
        Path | None,
        typer.Option("--policies", envvar="CANARY_POLICIES", help="Folder of policies; default: the shipped ones."),
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="On a real kube-apiserver (`make envtest`), not the embedded one.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", "-d/ ", help="Return once it is up, or stay until Ctrl-C.")
    ] = False,
) -> None:
    """Start a cluster with the service `payment`: API server, pods, Envoy, Prometheus, controller and load."""
    from canary.sandbox.cluster import Settings
    from canary.sandbox.ending import Told, ends_on_signals
    from canary.sandbox.supervisor import keep_up
    from canary.shipped import shipped

    directory = _directory(directory)
    if detach:
        options = ["--rate", f"{rate:g}", "--port", str(port), "--prometheus-port", str(prometheus_port)]
        options += ["--scrape-interval", format_duration(scrape_interval)]
        options += ["--controller" if controller else "--no-controller"]
        options += ["--policies", str(policies.absolute())] if policies else []
        options += ["--real"] if real else []
        _up_in_background(directory, options)
        return
    settings = Settings(
        rate=rate,
        scrape_interval_s=scrape_interval.total_seconds(),
        port=port,
        prometheus_port=prometheus_port,
        controller=controller,
        policies=policies or shipped("policies"),
        real=real,
    )
    began = time.monotonic()

    def greet(sandbox: Sandbox) -> None:
        print(_greeting(sandbox, time.monotonic() - began), flush=True)

    with ends_on_signals():
        try:
            keep_up(directory, settings, _tell, greet)
        except Told:
            complain("sandbox: ended, nothing of it is left")
        except SandboxError as error:
            stop_with_last_words(error)


def down(*, directory: Directory = None) -> None:
    """End the sandbox, or what a crashed one left, and remove its folder."""
    from canary.sandbox import state

    directory = _directory(directory)
    say(f"sandbox in {directory}: " + ("ended" if state.end(directory) else "there is none"))


def _tell(sentence: str) -> None:
    for line in sentence.splitlines():
        complain(_SAYS + line)


def _directory(named: Path | None) -> Path:
    """By default the session's own folder, which the system empties at its end."""
    if named is not None:
        return named.absolute()
    base = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(base) if base else Path.home() / ".cache") / "canary-sandbox"


def _up_in_background(directory: Path, options: list[str]) -> None:
    """Run `up` as a process of its own, wait until it is ready, and pass on what it printed."""
    from canary.sandbox import state

    state.free(directory)
    log = directory / state.SUPERVISOR_LOG
    command = [sys.executable, "-m", "canary.cli.app", "sandbox", "up", "--dir", str(directory), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        reading = log.open(encoding="utf-8", errors="replace")  # before a failed start removes the folder
    deadline = time.monotonic() + _START_SECONDS
    with reading:
        while not ((said := state.read(directory)) and said.is_ready):
            if process.poll() is not None:
                reason = reading.read().strip() or f"the sandbox ended with exit code {process.returncode}"
                stop_with_last_words(SandboxError(reason))
            if time.monotonic() >= deadline:
                process.terminate()
                reason = f"the sandbox was not up within {_START_SECONDS:g} s:\n{reading.read().strip()}"
                stop_with_last_words(SandboxError(reason))
            time.sleep(_POLL_SECONDS)
        lines = reading.read().splitlines()
    print("\n".join(line for line in lines if not line.startswith(_SAYS)))


def _greeting(sandbox: Sandbox, seconds: float) -> str:
    """What runs where, and what to type next."""
    from canary.sandbox import example

    program, settings = _program(), sandbox.settings
    is_default = sandbox.directory == _directory(None).resolve()
    where = "" if is_default else f" --dir {sandbox.directory}"
    load = f"{settings.rate:g} requests/s" if settings.rate else "no load"
    manifest = sandbox.manifests / "payment-v2.yaml"
    lines = [
        f"The sandbox is up ({seconds:.1f} s): Service {example.SERVICE}, all traffic on v1, {load}.",
        "",
        f"  Envoy       {sandbox.url}  (Host: {example.HOST})",
        f"  Prometheus  {sandbox.prometheus.url}",
        f"  controller  {sandbox.controller.url}/metrics" if settings.controller else "  controller  not started",
        f"  logs        {sandbox.logs}",
        "",
        "In another terminal:",
        "",
        f"  export KUBECONFIG={sandbox.kubeconfig}",
    ]
    if not settings.controller:
        lines.append(f"  {program} {' '.join(sandbox.controller.arguments)} --log-format console")
    lines += [
        f"  kubectl apply -f {manifest}",
        "  kubectl annotate deployment payment-v2 canary.delivery/policy=demo",
        "  kubectl get crol -w",
        f"  {program} status -w",
        "",
        "payment-v3.yaml fails 5 % of its requests, -v4 is three times as slow, -v5 fails them all.",
        f"Ctrl-C, or `{program} sandbox down{where}`, ends it.",
    ]
    return "\n".join(lines)


def _program() -> str:
    """How this command is called here: by its name where that is found, else by its path."""
    script = Path(sys.executable).with_name("canary")
    found = shutil.which("canary")
    return "canary" if found or not script.exists() else os.path.relpath(script)
