"""Makes the faults of a schedule happen, each at its time, and takes each back; counts what they really hit."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from canary.errors import SandboxError
from canary.sandbox.prometheus import PrometheusServer
from tests.faults import kubernetes, prometheus
from tests.faults.asked import Asked
from tests.faults.callers import Callers
from tests.faults.cluster import Cluster
from tests.faults.proxy import Answer, Forward, Hook, Proxy
from tests.faults.soak.controller import Controller
from tests.faults.soak.schedule import Episode
from tests.faults.streams import End, Streams

Undo = Callable[[], None]
Where = Callable[[Asked], bool]

CUT_AGAIN_S = 2.0
"""A fault that ends watches ends them again so often, for as long as it lasts."""


def nothing_to_undo() -> None:
    """For a fault that is over at once."""


def _requests(fault: str, amount: float) -> tuple[Where, Hook]:
    """Which requests a fault on the way to the API server is about, and what it does to them."""
    anything, writes = kubernetes.requests, kubernetes.writes()
    hooks: Mapping[str, tuple[Where, Hook]] = {
        "late answer": (anything, kubernetes.late(amount)),
        "late request": (anything, kubernetes.late_before(amount)),
        "409": (writes, kubernetes.conflict()),
        "422 without causes": (writes, kubernetes.lost_precondition()),
        "422 with causes": (writes, kubernetes.invalid("a webhook says no")),
        "429 in seconds": (anything, kubernetes.throttled(amount)),
        "429 with a date": (anything, kubernetes.throttled(amount, as_date=True)),
        "500": (anything, kubernetes.broken()),
        "500 too large": (writes, kubernetes.too_large()),
        "503": (anything, kubernetes.unavailable()),
        "answer lost": (writes, kubernetes.answer_lost),
        "connection reset": (anything, kubernetes.reset),
        "half the JSON": (anything, kubernetes.truncated),
        "dribbled answer": (anything, kubernetes.dribbled(amount)),
    }
    return hooks[fault]


def _questions(fault: str, amount: float) -> Hook:
    """What a fault on the way to Prometheus does to its questions."""
    hooks: Mapping[str, Hook] = {
        "away": kubernetes.reset,
        "slow": prometheus.silent(amount),
        "silent": prometheus.silent(amount),
        "status error": prometheus.status_error(),
        "login page": prometheus.login_page(),
        "empty": prometheus.empty(),
        "NaN": prometheus.not_a_number(),
        "warnings": prometheus.partial_warning(),
        "dribbled answer": kubernetes.dribbled(amount),
        "half the JSON": kubernetes.truncated,
    }
    return hooks[fault]


@dataclass
class Injector:
    """Runs a schedule on a thread of its own. `injected` counts what was hit, `skipped` what could not be done here."""

    cluster: Cluster
    to_cluster: Proxy
    streams: Streams
    to_prometheus: Proxy
    server: PrometheusServer
    callers: Callers
    controller: Controller
    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    _under_way: list[tuple[Episode, Undo]] = field(default_factory=list)
    _workers: list[threading.Thread] = field(default_factory=list)

    def run(self, episodes: tuple[Episode, ...], note: Callable[[str], None]) -> None:
        """Until the last one is over. Each is begun and taken back on a thread of its own: some take seconds."""
        began = time.monotonic()
        for episode in episodes:
            time.sleep(max(0.0, began + episode.begins_s - time.monotonic()))
            note(str(episode))
            worker = threading.Thread(target=self._one, args=(episode, began + episode.ends_s), daemon=True)
            worker.start()
            self._workers.append(worker)
        for worker in self._workers:
            worker.join(120)

    def _one(self, episode: Episode, until: float) -> None:
        undo = self._begin(episode, until)
        time.sleep(max(0.0, until - time.monotonic()))
        undo()

    def _begin(self, episode: Episode, until: float) -> Undo:
        match episode.lane:
            case "requests":
                where, hook = _requests(episode.fault, episode.amount)
                return self._stand_in(self.to_cluster, episode, where, hook)
            case "prometheus":
                hook = _questions(episode.fault, episode.amount)
                return self._stand_in(self.to_prometheus, episode, kubernetes.everything, hook)
            case "watches":
                return self._watches(episode, until)
            case "scrapes":
                return self._scrapes(episode)
            case "processes":
                return self._processes(episode)
            case _:
                return self._clock(episode)

    def _stand_in(self, proxy: Proxy, episode: Episode, where: Where, fault: Hook) -> Undo:
        name = f"{episode.lane}: {episode.fault}"
        rng = Random(f"{self.seed}/{episode.begins_s}")

        async def hook(asked: Asked, forward: Forward) -> Answer:
            if not where(asked) or rng.random() >= episode.share:
                return await forward()
            self.injected[name] += 1
            return await fault(asked, forward)

        proxy.hooks.insert(0, hook)
        return lambda: proxy.hooks.remove(hook)

    def _watches(self, episode: Episode, until: float) -> Undo:
        if episode.fault == "lagging watch":
            self.streams.lag_s = episode.amount

            def in_time() -> None:
                self.streams.lag_s = 0.0

            return in_time
        if episode.fault == "watch refused":
            self.streams.end(End.CUT)
            return self._stand_in(self.to_cluster, episode, kubernetes.watches(), kubernetes.unavailable())
        while time.monotonic() < until:
            self.streams.end(End(episode.fault))
            time.sleep(min(CUT_AGAIN_S, max(0.0, until - time.monotonic())))
        return nothing_to_undo

    def _scrapes(self, episode: Episode) -> Undo:
        self.injected[f"scrapes: {episode.fault}"] += 1
        if episode.fault == "callers restarted":
            self.callers.restarted()
            return nothing_to_undo
        how = {"one target hangs": "hangs", "half a page": "cut"}.get(episode.fault, "down")
        hit = self.callers.targets if episode.fault == "all targets down" else self.callers.targets[:1]
        for target in hit:
            target.fails = how

        def back() -> None:
            for target in hit:
                target.fails = ""

        return back

    def _processes(self, episode: Episode) -> Undo:
        if episode.fault == "API server killed" and not self.cluster.keeps_its_objects:
            return self._cut_off(episode)
        self.injected[f"processes: {episode.fault}"] += 1
        match episode.fault:
            case "controller ended":
                self.controller.end()
            case "controller killed":
                self.controller.kill()
            case "controller frozen":
                self.controller.freeze()
                return self.controller.thaw
            case "Prometheus killed":
                self.server.kill()
                return lambda: _again(self.server.start)
            case "Prometheus empty":
                self.server.restart(lose_data=True)
            case "API server killed":
                self.cluster.kill()
                return lambda: _again(self.cluster.start)
        return nothing_to_undo

    def _cut_off(self, episode: Episode) -> Undo:
        """What a restart looks like from outside, for a server that would lose its objects."""
        self.streams.end(End.CUT)
        return self._stand_in(self.to_cluster, episode, kubernetes.everything, kubernetes.reset)

    def _clock(self, episode: Episode) -> Undo:
        clock = self.controller.clock
        if clock is None:
            self.skipped[f"clock: {episode.fault}"] += 1
            return nothing_to_undo
        self.injected[f"clock: {episode.fault}"] += 1
        clock.set(episode.amount if episode.fault == "clock ahead" else -episode.amount)
        return lambda: clock.set(0.0)


def _again(start: Callable[[], object], tries: int = 3) -> None:
    """Start a server; a machine under load may need more time than one try has."""
    for left in reversed(range(tries)):
        try:
            start()
        except SandboxError:
            if not left:
                raise
        else:
            return
