"""What the controller may not do: found out before a rollout needs it, and said where somebody looks.

The API server is asked which rules hold for us a few seconds apart, so that a verb that is taken away is named soon,
and one that is given back is used. While nothing is missing that costs two requests per round, whatever the number of
rollouts. A request that is refused is told here too. What is missing is said in /readyz, in the log, by a metric, and
on the rollouts that it hinders; nothing is refused here that the API server would allow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import structlog

from canary.cluster.access import Right
from canary.cluster.gateway import Gateway
from canary.daemon import sentences
from canary.daemon.needs import Need, Role, need_of
from canary.daemon.questions import Given, Questions
from canary.engine.observed import Finding
from canary.errors import ClusterError, FindingError, Forbidden, NotFound
from canary.model.rollout import Rollout

ROUND_S = 5.0
AT_ONCE = 4
"""Namespaces that lack something are asked about in each round, so many at most, so that they go on soon."""

BETWEEN_S = 1.0
"""Refusals bring the next round forward, but not closer than this."""

FORGET_S = 300.0
"""What was refused is asked for again within a minute; after this nobody asks any more: the rollout is gone."""

RIGHTS_MISSING, DENIED, REFUSED = "RightsMissing", "AdmissionDenied", "Forbidden"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    controller: frozenset[Need] = frozenset()
    namespaces: dict[str, Given] = field(default_factory=dict)
    refusals: dict[str, tuple[str, Finding, float]] = field(default_factory=dict)
    """Of rollouts, by uid: namespace, what was refused last, and when."""
    suspects: set[str] = field(default_factory=set)


class Rights:
    """Safe for several threads. `releasing()` names the namespaces where something is released or asks to be;
    `on_change(namespace)` hears where rights came or went, "" for everywhere."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        served: str | None,
        own: str,
        releasing: Callable[[], Collection[str]],
        on_change: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._served, self._own = served, own
        self._questions = Questions(gateway, served, own, clock)
        self._timeout_s = gateway.timeout_seconds
        self._releasing, self._on_change, self._clock = releasing, on_change, clock
        self._known = _Known()
        self._lock = threading.Lock()
        self._can_ask = True
        self._complaint = ""
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Ask on a thread of its own until stop()."""
        self._thread = threading.Thread(target=self._run, name="rights", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(self._timeout_s + 1.0)

    # -- what is missing, for people

    def not_ready(self) -> str:
        """What the installation lacks, one line each, "" for nothing: rights of the controller itself, and those of
        canary-writes that are missing wherever the role is bound."""
        with self._lock:
            lacking = sorted(self._known.controller, key=_order)
            bound = {name: one for name, one in self._known.namespaces.items() if one.is_bound}
        where = next(iter(bound), "")
        if bound:
            everywhere = frozenset.intersection(*(one.missing for one in bound.values()))
            lacking += sorted(everywhere - set(lacking), key=_order)
        return "\n".join(
            sentences.lacks(need, self._place(need, where if need.role is Role.WRITES else ""), self._served)
            for need in lacking
        )

    def notes(self) -> str:
        """What single namespaces lack, one line each, "" for nothing: theirs to give, so we are ready all the same."""
        with self._lock:
            found = {name: one for name, one in sorted(self._known.namespaces.items()) if one.missing}
        return "\n".join(self._of_namespace(name, one, one.missing) for name, one in found.items())

    def missing(self) -> list[tuple[str, str, str]]:
        """(verb, resource, namespace) of each missing right, for the metric; "" is every namespace."""
        with self._lock:
            found = [(need, self._place(need, "")) for need in self._known.controller]
            for name, one in self._known.namespaces.items():
                found += [(need, name) for need in one.missing]
        return sorted({(need.right.verb, need.right.resource, place or "") for need, place in found})

    # -- what is missing, for rollouts

    def check(self, namespace: str) -> None:
        """Before a rollout starts. Raises FindingError when a right is missing that it will need.

        Asks the API server where this namespace is new; what cannot be found out hinders nobody.
        """
        with self._lock:
            is_new = namespace not in self._known.namespaces
        if is_new and self._can_ask:
            try:
                self._ask_namespace(namespace)
            except ClusterError as error:
                self._cannot_ask(error)
        found = self._hindrance(namespace)
        if found is not None:
            raise FindingError(found.reason, found.sentence)

    def problem(self, rollout: Rollout) -> Finding | None:
        """What is refused to a rollout that has started, or would be if it were asked for; asks nobody."""
        refusal = self._known.refusals.get(rollout.uid)
        return self._hindrance(rollout.namespace) or (refusal[1] if refusal else None)

    def refused(self, rollout: Rollout, error: Forbidden) -> Finding:
        """A request for a rollout was refused: what to say about it. Kept until `went_through`."""
        if error.verb:
            roles = (Role.OWN,) if error.namespace == self._own else tuple(Role)
            need = need_of(error.verb, error.resource, *roles)
            place = error.namespace or None
            finding = Finding(RIGHTS_MISSING, sentences.lacks(need, place, self._served) if need else str(error))
        else:
            finding = Finding(DENIED if error.policy else REFUSED, str(error))
        with self._lock:
            self._known.refusals[rollout.uid] = (rollout.namespace, finding, self._clock())
            self._known.suspects.add(rollout.namespace)
        self._wake.set()
        return self._hindrance(rollout.namespace) or finding

    def went_through(self, rollout: Rollout) -> None:
        """Everything that was asked for this rollout was done."""
        if rollout.uid in self._known.refusals:
            with self._lock:
                self._known.refusals.pop(rollout.uid, None)

    # -- asking

    def round(self) -> None:
        """Ask what is due. Raises ClusterError."""
        self._ask_controller()
        for namespace in self._due():
            self._ask_namespace(namespace)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            if self._can_ask:
                try:
                    self.round()
                    self._complaint = ""
                except ClusterError as error:
                    self._cannot_ask(error)
                except Exception:
                    # what we may do is only for people: a fault here must not end the asking, nor anything else
                    log.exception("rights not asked for")
            self._stopping.wait(BETWEEN_S)
            self._wake.wait(ROUND_S - BETWEEN_S)

    def _cannot_ask(self, error: ClusterError) -> None:
        if isinstance(error, NotFound):
            self._can_ask = False  # no such review: rights are known by being refused
        sentence = str(error)
        if sentence != self._complaint:
            log.info("rights not known", why=sentence)
        self._complaint = sentence

    def _ask_controller(self) -> None:
        before = self._known.controller
        lacking = self._questions.of_controller(before)
        with self._lock:
            self._known.controller = lacking
        self._tell("", before, lacking)

    def _ask_namespace(self, namespace: str) -> None:
        found = self._questions.of_namespace(namespace)
        with self._lock:
            before = self._known.namespaces.get(namespace)
            self._known.namespaces[namespace] = found
            self._known.suspects.discard(namespace)
            if not found.missing and not self._known.controller:
                for uid, (where, finding, _) in list(self._known.refusals.items()):
                    if where == namespace and finding.reason == RIGHTS_MISSING:
                        del self._known.refusals[uid]
        self._tell(namespace, before.missing if before else frozenset(), found.missing)

    def _due(self) -> list[str]:
        """Those that lack something, those that were refused something, and whoever was not asked about for longest."""
        here = set(self._releasing())
        with self._lock:
            known = self._known.namespaces
            for name in known.keys() - here:
                del known[name]
            now, refusals = self._clock(), self._known.refusals
            self._known.refusals = {uid: one for uid, one in refusals.items() if now - one[2] < FORGET_S}
            uneasy = {name for name in here if name in self._known.suspects or (name in known and known[name].missing)}
            self._known.suspects &= here
            by_age = sorted(here, key=lambda name: known[name].asked_at if name in known else float("-inf"))
        troubled = [name for name in by_age if name in uneasy][:AT_ONCE]
        return troubled + [name for name in by_age if name not in uneasy][:1]

    # -- words

    def _hindrance(self, namespace: str) -> Finding | None:
        # no lock: each is one look-up of what is only ever replaced whole, and every look of every worker comes past
        controller = [need for need in self._known.controller if need.stops]
        found = self._known.namespaces.get(namespace)
        if found is not None and (stopping := [need for need in found.missing if need.stops]):
            return Finding(RIGHTS_MISSING, self._of_namespace(namespace, found, stopping))
        if controller:
            first = min(controller, key=_order)
            return Finding(RIGHTS_MISSING, sentences.lacks(first, self._place(first, namespace), self._served))
        return None

    def _of_namespace(self, namespace: str, found: Given, missing: Iterable[Need]) -> str:
        if not found.is_bound:
            return sentences.unbound(namespace, self._questions.account, self._own)
        return sentences.partly(namespace, sorted(missing, key=_order), self._served)

    def _place(self, need: Need, namespace: str) -> str | None:
        """Where a right is missing; None for all namespaces."""
        if need.role is Role.OWN:
            return self._own
        return self._served or (namespace if need.role is Role.WRITES else None)

    def _tell(self, namespace: str, before: frozenset[Need], now: frozenset[Need]) -> None:
        for need in sorted(now - before, key=_order):
            place = self._place(need, namespace)
            log.warning("right missing", sentence=sentences.lacks(need, place, self._served), namespace=place)
        for need in sorted(before - now, key=_order):
            log.info("right given", right=str(need.right), namespace=self._place(need, namespace))
        if before != now:
            self._on_change(namespace)


def _order(need: Need) -> tuple[bool, Role, Right]:
    return not need.stops, need.role, need.right
