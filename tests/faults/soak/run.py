"""One soak: services that are released all the time, a controller, and faults on all sides of it until the time is up.

When the last fault is over everything must come to its end by itself, within `settle_s`.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from canary.cluster.kinds import NAMESPACE
from canary.sandbox.prometheus import PrometheusServer, ScrapeTarget
from tests.faults.callers import Callers
from tests.faults.clock import JumpingClock, find_faketime
from tests.faults.cluster import Cluster, EmbeddedCluster, Insistent, RealCluster, define
from tests.faults.proxy import Proxy
from tests.faults.soak.controller import Controller
from tests.faults.soak.injection import Injector
from tests.faults.soak.lives import Lives
from tests.faults.soak.owners import Owner, write_policy
from tests.faults.soak.report import Report, counted, ends, judged
from tests.faults.soak.schedule import digest, schedule
from tests.faults.streams import Streams

OWN_NAMESPACE = "canary-system"
CALM_S = 8.0
"""Before the first fault: Prometheus makes its first scrape, the first rollouts begin."""


@dataclass(frozen=True, slots=True)
class Plan:
    seconds: float
    seed: int
    services: int = 6
    settle_s: float = 150.0
    real: bool = False
    directory: Path | None = None
    """Where logs and data stay; a folder that is deleted in the end otherwise."""


@contextmanager
def _folder(plan: Plan) -> Iterator[Path]:
    if plan.directory is not None:
        plan.directory.mkdir(parents=True, exist_ok=True)
        yield plan.directory
        return
    with tempfile.TemporaryDirectory(prefix="canary-soak-") as name:
        yield Path(name)


def soak(plan: Plan, note: Callable[[str], None]) -> Report:
    """Run it. Raises SandboxError when a part cannot be started."""
    with _folder(plan) as folder, ExitStack() as stack:
        cluster: Cluster = RealCluster(folder) if plan.real else EmbeddedCluster(folder)
        stack.callback(cluster.stop)
        cluster.start()
        users = Insistent.to(cluster.kubeconfig)
        stack.callback(users.close)
        define(users)
        users.create(NAMESPACE, None, {"metadata": {"name": OWN_NAMESPACE}})

        callers, lives = Callers(users), Lives(users)
        for part in (callers, lives):
            part.start()
            stack.callback(part.stop)
        targets = [ScrapeTarget(f"127.0.0.1:{target.server_port}", keep=None) for target in callers.targets]
        server = PrometheusServer(folder / "prometheus", targets, scrape_interval_s=1.0)
        stack.callback(server.stop)
        server.start(60)

        streams = Streams()
        to_cluster = stack.enter_context(Proxy.before(cluster.kubeconfig, [streams]))
        to_prometheus = stack.enter_context(Proxy(server.url))
        library = find_faketime()
        clock = JumpingClock(library, folder / "clock") if library else None
        controller = Controller(
            [
                f"--kubeconfig={to_cluster.kubeconfig(cluster.kubeconfig, folder / 'kubeconfig')}",
                f"--prometheus={to_prometheus.url}",
                "--all-namespaces",
                f"--own-namespace={OWN_NAMESPACE}",
                f"--policies={write_policy(folder / 'policies')}",
            ],
            folder / "canary.log",
            clock,
        )
        stack.callback(controller.stop)
        owners = [Owner(users, callers, lives, plan.seed, number) for number in range(plan.services)]
        for owner in owners:
            owner.prepare()
        controller.start()
        for owner in owners:
            owner.start()
        time.sleep(CALM_S)

        injector = Injector(cluster, to_cluster, streams, to_prometheus, server, callers, controller, plan.seed)
        episodes = schedule(plan.seed, plan.seconds)
        note(f"schedule {digest(episodes)}: {len(episodes)} faults in {plan.seconds:g} s, seed {plan.seed}")
        ended = threading.Timer(plan.seconds, _finish, [owners])
        ended.daemon = True
        ended.start()
        injector.run(episodes, note)
        ended.join()
        note("the faults are over: everything must come to its end")
        until = time.monotonic() + plan.settle_s
        unfinished = [_unfinished(owner, lives) for owner in owners if not owner.wait(until)]
        note("ended")
        title = f"{plan.seed}, {plan.seconds:g}, {digest(episodes)}"
        return _report(title, injector, owners, unfinished)


def _finish(owners: list[Owner]) -> None:
    for owner in owners:
        owner.finish()


def _unfinished(owner: Owner, lives: Lives) -> str:
    running = [life for life in lives.all() if life.rollout.namespace == owner.namespace and not life.is_over]
    told = [
        f"{life.rollout.name} is {life.rollout.status.phase.value}: {life.rollout.status.message}" for life in running
    ]
    return f"{owner.namespace}: {'; '.join(told) or 'its owner waits for a rollout that never began'}"


def _report(title: str, injector: Injector, owners: list[Owner], unfinished: list[str]) -> Report:
    controller = injector.controller
    releases = [release for owner in owners for release in owner.releases]
    decisions, wrong = Counter[str](), []
    for line in controller.said():
        if line.get("event") == "decision":
            decisions[str(line.get("phase"))] += 1
        if line.get("level") in ("error", "critical") or "Traceback" in str(line.get("event")):
            wrong.append(str(line)[:400])
    found = judged(releases, unfinished, injector.callers.lost)
    found["controller crashed or hung"] = [
        f"{count} times {why}" for why, count in controller.restarts.items() if why not in ("ended", "killed")
    ]
    found["errors nobody foresaw"] = wrong
    found["failures of the soak itself"] = [repr(owner.failure) for owner in owners if owner.failure]
    held = Counter(reason for release in releases if release.life for reason in release.life.held_for)
    paused = sum(bool(release.life and "inconclusive" in release.life.paused_for) for release in releases)
    injected = injector.injected + injector.streams.counts
    return Report(
        found,
        {
            "seed, seconds, schedule": title,
            "API server": injector.cluster.name,
            "releases": f"{len(releases)}: {ends(releases)}",
            "decisions": f"{sum(decisions.values())}: {counted(decisions)}",
            "requests of callers": str(injector.callers.sent),
            "rollouts that held, by reason": counted(held),
            "rollouts that asked a person": str(paused),
            "controller started again": counted(controller.restarts),
            "faults hit": f"{sum(injected.values())}: {counted(injected)}",
            "faults skipped": counted(injector.skipped),
        },
    )
