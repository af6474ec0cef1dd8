"""What users get wrong: an Event, a condition and a sentence that says what would be right; nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canary.cluster.kinds import CANARYROLLOUT, DEPLOYMENT, DESTINATIONRULE, SERVICE, VIRTUALSERVICE
from canary.model.rollout import Phase

pytestmark = pytest.mark.slow

ATTEMPT = "payment-v2-v2a-1"
STARTED = (Phase.PROGRESSING, Phase.PROMOTING, Phase.SUCCEEDED)


def is_refused(shop: Any, reason: str, *says: str, name: str = ATTEMPT) -> None:
    """A stalled rollout, two Events, and a message that names the object and what would be right."""
    rollout = shop.stalled(name, reason)
    message = rollout.status.message
    assert rollout.status.phase in (Phase.PENDING, Phase.CHECKING)
    assert [text for text in says if text not in message] == [], message
    assert shop.event(name, reason) == message[:1024]
    assert shop.event("payment-v2", reason) == message[:1024]


def test_an_unknown_policy_is_named_with_the_known_ones_and_the_rollout_starts_once_it_is_there(
    released: Any, controller: Any, policies: Path
) -> None:
    before = released.written()
    released.release("v2", policy="quik")

    is_refused(released, "UnknownPolicy", '"quik"', "quick")
    assert released.written() == before

    (policies / "quik.yaml").write_text((policies / "quick.yaml").read_text().replace("name: quick", "name: quik"))
    released.reaches(ATTEMPT, *STARTED)


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        ("policy", "Quick Policy", "must be a plain name"),
        ("service", "payment.bank.svc.cluster.local", "never another namespace"),
        ("virtual-service", "bank/payment", "never another namespace"),
        ("release-id", "\x1b[31m::set-output name=x::y", "letters, digits"),
        ("servcie", "payment", "is not one of"),
    ],
)
def test_a_malformed_annotation_is_an_event_on_the_deployment_and_never_an_object(
    released: Any, controller: Any, annotation: str, value: str, says: str
) -> None:
    before = released.written()
    annotations = {"canary.delivery/policy": "quick", f"canary.delivery/{annotation}": value}
    released.deploy("v2", annotations)

    message = released.event("payment-v2", "BadAnnotation")

    assert f"canary.delivery/{annotation}" in message
    assert says in message
    assert "\x1b" not in message
    assert released.rollouts() == []
    assert released.written() == before
    released.patch(DEPLOYMENT, "payment-v2", {"metadata": {"annotations": {
        f"canary.delivery/{annotation}": None, "canary.delivery/policy": "quick"}}})  # fmt: skip
    released.reaches(ATTEMPT, *STARTED)


def test_a_missing_service_is_named_and_its_arrival_starts_the_rollout(shop: Any, controller: Any) -> None:
    shop.rule()
    shop.virtual_service()
    shop.deploy("v1")
    before = shop.written()
    shop.release("v2")

    is_refused(shop, "ServiceMissing", "payment-v2", "spec.selector")
    assert shop.written() == before

    shop.service()
    shop.reaches(ATTEMPT, *STARTED)


def test_a_missing_virtual_service_is_named_and_its_arrival_starts_the_rollout(shop: Any, controller: Any) -> None:
    shop.service()
    shop.rule()
    shop.deploy("v1")
    shop.release("v2")

    is_refused(shop, "VirtualServiceMissing", "payment", "spec.hosts")

    shop.virtual_service()
    shop.reaches(ATTEMPT, *STARTED)


def test_two_virtual_services_for_one_service_are_listed_and_one_of_them_may_be_named(
    released: Any, controller: Any
) -> None:
    released.create(VIRTUALSERVICE, {"metadata": {"name": "other"}, "spec": {
        "hosts": ["shop.example.com"], "gateways": ["public"],
        "http": [{"route": [{"destination": {"host": "payment", "subset": "v1"}}]}]}})  # fmt: skip
    before = released.written()
    released.release("v2", virtual_service="third")

    is_refused(released, "VirtualServiceMissing", "third", "other", "payment")
    assert released.written() == before

    released.patch(DEPLOYMENT, "payment-v2", {"metadata": {"annotations": {
        "canary.delivery/virtual-service": "payment"}}})  # fmt: skip
    released.reaches(ATTEMPT, *STARTED)
    assert [one for one in released.written() if one["metadata"]["name"] == "other"] == [
        one for one in before if one["metadata"]["name"] == "other"
    ]


def test_an_ambiguous_route_lists_the_candidates(released: Any, controller: Any) -> None:
    http = released.get(VIRTUALSERVICE)["spec"]["http"]
    twin = {**http[0], "name": "mobile", "match": [{"headers": {"x-app": {"exact": "mobile"}}}]}
    released.patch(VIRTUALSERVICE, "payment", {"spec": {"http": [twin, *http]}})
    before = released.written()
    released.release("v2")

    is_refused(released, "AmbiguousRoute", "mobile", "primary")
    assert released.written() == before

    released.patch(VIRTUALSERVICE, "payment", {"spec": {"http": http}})
    released.reaches(ATTEMPT, *STARTED)


def test_a_subset_that_is_somebody_elses_is_left_to_him(shop: Any, controller: Any) -> None:
    shop.service()
    theirs = {"team": "reports"}
    shop.rule({"name": "v2", "labels": theirs}, {"name": "v2-canary", "labels": theirs})
    shop.virtual_service()
    shop.deploy("v1")
    before = shop.written()
    shop.release("v2")

    is_refused(shop, "SubsetTaken", "v2 and v2-canary", "'version': 'v2'", "'team': 'reports'")
    assert shop.written() == before

    subsets = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "reports", "labels": {"team": "reports"}}]
    shop.patch(DESTINATIONRULE, "payment", {"spec": {"subsets": subsets}})
    shop.reaches(ATTEMPT, *STARTED)


def test_a_route_without_subsets_gets_the_yaml_to_add(shop: Any, controller: Any) -> None:
    shop.service()
    shop.virtual_service(subset=None)
    shop.deploy("v1")
    before = shop.written()
    shop.release("v2")

    is_refused(shop, "NoSubsets", "DestinationRule", "subset", "version")
    assert shop.written() == before

    shop.rule()
    http = [{"name": "primary", "route": [{"destination": {"host": "payment", "subset": "v1"}, "weight": 100}]}]
    shop.patch(VIRTUALSERVICE, "payment", {"spec": {"http": http}})
    shop.reaches(ATTEMPT, *STARTED)


def test_a_target_that_does_not_exist_is_named_and_may_still_come(released: Any, controller: Any) -> None:
    released.start("by-hand", "payment-v2")

    rollout = released.stalled("by-hand", "TargetMissing")
    assert f"Deployment {released.namespace}/payment-v2 does not exist" in rollout.status.message
    assert released.event("by-hand", "TargetMissing") == rollout.status.message

    released.deploy("v2")
    released.reaches("by-hand", *STARTED)


def test_a_rollout_of_what_is_stable_already_ends_superseded_and_says_so(released: Any, controller: Any) -> None:
    before = released.written()
    released.start("again", "payment-v1")

    ended = released.reaches("again", Phase.SUPERSEDED)

    assert "payment-v1 already carries the traffic" in ended.status.message
    assert released.written() == before
    assert ended.finalizers == ()


def test_an_external_name_service_is_never_followed(released: Any, controller: Any) -> None:
    released.create(SERVICE, {"metadata": {"name": "outside"}, "spec": {
        "type": "ExternalName", "externalName": "payment.bank.svc.cluster.local"}})  # fmt: skip
    before = released.written()
    released.release("v2", service="outside")

    is_refused(released, "UnusableService", "ExternalName")
    assert released.written() == before

    released.patch(DEPLOYMENT, "payment-v2", {"metadata": {"annotations": {"canary.delivery/service": None}}})
    released.reaches(ATTEMPT, *STARTED)


def test_correcting_the_annotation_is_enough(released: Any, controller: Any) -> None:
    released.release("v2", policy="quik", release_id="build/1")
    stuck = released.stalled(ATTEMPT, "UnknownPolicy")

    released.patch(DEPLOYMENT, "payment-v2", {"metadata": {"annotations": {"canary.delivery/policy": "quick"}}})

    done = released.reaches(ATTEMPT, *STARTED)
    assert done.uid != stuck.uid
    assert done.spec.trigger.id == "build/1"
    assert len(released.rollouts()) == 1


def test_opting_out_takes_back_an_attempt_that_has_not_begun(
    released: Any, controller: Any, wait: Callable[..., Any]
) -> None:
    released.release("v2", policy="quik")
    released.stalled(ATTEMPT, "UnknownPolicy")

    released.patch(DEPLOYMENT, "payment-v2", {"metadata": {"annotations": {"canary.delivery/policy": None}}})

    wait(lambda: released.rollouts() == [], what="for the attempt to be taken back")


def test_a_service_that_is_not_the_targets_is_refused_and_disturbs_nobody(released: Any, controller: Any) -> None:
    labels = {"app": "ledger"}
    released.create(SERVICE, {"metadata": {"name": "ledger"}, "spec": {"selector": labels, "ports": [{"port": 80}]}})
    released.release("v2", policy="quick", service="ledger")

    is_refused(released, "ServiceMismatch", "ledger", "payment-v2")


def test_a_broken_policy_file_leaves_the_good_version_in_force(
    released: Any, controller: Any, policies: Path, capfd: pytest.CaptureFixture[str], wait: Callable[..., Any]
) -> None:
    text = (policies / "quick.yaml").read_text()
    (policies / "quick.yaml").write_text(text.replace("minRequests: 5", "minRequests: many"))
    wait(lambda: controller.daemon.folder.errors, what="for the folder to be read again")
    released.release("v2")

    released.reaches(ATTEMPT, *STARTED)

    (error,) = controller.daemon.folder.errors
    assert (error.field, error.line) == ("analysis.minRequests", 3)
    logged = capfd.readouterr()
    assert f"{policies}/quick.yaml:3: analysis.minRequests" in logged.out + logged.err
    assert "canary_policy_errors 1.0" in controller.metrics()


def test_an_unknown_policy_because_of_a_broken_file_says_which_line(
    released: Any, controller: Any, policies: Path, wait: Callable[..., Any]
) -> None:
    (policies / "gold.yaml").write_text("name: gold\nstrategy: {weights: [10, 100], holt: 1m}\n")
    wait(lambda: controller.daemon.folder.errors, what="for the folder to be read again")
    released.release("v2", policy="gold")

    is_refused(released, "UnknownPolicy", "gold.yaml:2", "strategy.holt")

    (policies / "gold.yaml").write_text((policies / "quick.yaml").read_text().replace("name: quick", "name: gold"))
    released.reaches(ATTEMPT, *STARTED)


def test_a_prometheus_without_istios_metrics_starts_nothing_and_says_so(
    released: Any, counts: Any, controller: Any
) -> None:
    counts.blocking = "Prometheus at http://prometheus:9090 has no istio_requests_total"
    controller.ask_the_source()
    before = released.written()
    released.release("v2")

    is_refused(released, "MetricsMissing", "http://prometheus:9090", "istio_requests_total")
    assert released.written() == before

    counts.blocking = ""
    released.reaches(ATTEMPT, *STARTED)


def test_a_prometheus_that_is_away_at_the_start_is_named_once_and_waited_for(
    released: Any, counts: Any, run_daemon: Any
) -> None:
    counts.away = "Prometheus at http://prometheus:9090: connection refused"
    controller = run_daemon()
    before = released.written()
    released.release("v2")

    is_refused(released, "TelemetryUnavailable", "http://prometheus:9090", "refused")
    assert released.written() == before
    controller.ticks(3)
    at_rest = len(controller.writes)
    for failures in range(5):  # a countdown in the sentence is no news
        counts.away = f"Prometheus at http://prometheus:9090: connection refused ({failures} failures in a row)"
        controller.ticks(1)
    assert len(controller.writes) == at_rest

    counts.away = ""
    released.reaches(ATTEMPT, *STARTED)


def test_a_stalled_rollout_is_looked_at_by_events_and_resyncs_and_never_in_a_loop(
    released: Any, controller: Any
) -> None:
    released.release("v2", policy="none")
    released.stalled(ATTEMPT, "UnknownPolicy")
    controller.ticks(2)

    before, writes = controller.looks(), len(controller.writes)
    controller.ticks(8)

    assert controller.looks() - before <= 2
    assert len(controller.writes) == writes


def test_hostile_text_in_a_rollouts_wish_reaches_no_status_and_no_event(released: Any, controller: Any) -> None:
    released.start("by-hand", "payment-v9")
    released.stalled("by-hand", "TargetMissing")

    released.patch(CANARYROLLOUT, "by-hand", {"spec": {"abort": {"reason": "[red]<b>stop", "actor": "me"}}})

    ended = released.reaches("by-hand", Phase.ABORTED)
    assert "\x1b" not in json.dumps(ended.status.message)
    assert ended.status.message == "aborted by me: [red]<b>stop"
