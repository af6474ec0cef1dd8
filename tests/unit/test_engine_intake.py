"""Who starts by itself, who must not, and which of several attempts is the one (decisions 2-4)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canary.engine.intake import Candidate, Carrier, active_of, attempt_document, attempts_at, intake, revision_in
from canary.model.annotations import OptIn
from canary.model.rollout import Phase, Rollout, RolloutSpec, RolloutStatus

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def made(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def candidate(version: int, minute: int, revision: str = "") -> Candidate:
    asks = OptIn(policy="standard")
    return Candidate(f"payment-v{version}", revision or f"hash{version}", made(minute), asks, "payment")


def carrier(version: int, minute: int) -> Carrier:
    return Carrier(f"payment-v{version}", f"hash{version}", made(minute))


@pytest.fixture
def attempt() -> Callable[..., Rollout]:
    """An attempt at payment-v<version>; `pinned` is the revision it was checked with."""

    def make(
        version: int, minute: int, phase: Phase = Phase.PENDING, *, pinned: str = "", name: str = "", n: int = 1
    ) -> Rollout:
        return Rollout(
            namespace="shop",
            name=name or f"payment-v{version}-{pinned or f'hash{version}'}-{n}",
            uid=f"uid-{version}-{minute}",
            resource_version="1",
            generation=1,
            created=made(minute),
            deleting=False,
            finalizers=(),
            spec=RolloutSpec(target=f"payment-v{version}", policy_name="standard"),
            status=RolloutStatus(phase=phase, target_revision=pinned or None),
        )

    return make


def test_a_revision_newer_than_stable_without_an_attempt_starts() -> None:
    wanted = intake([candidate(2, 10)], carrier(1, 0), [])

    assert wanted.start == candidate(2, 10)
    assert wanted.notes == ()


def test_what_carries_the_traffic_is_stable_and_does_not_start() -> None:
    assert intake([candidate(1, 0)], carrier(1, 0), []).start is None


def test_v1_annotated_does_not_come_back_after_v2_was_promoted(attempt: Any) -> None:
    promoted = attempt(2, 11, Phase.SUCCEEDED, pinned="hash2")

    wanted = intake([candidate(1, 0), candidate(2, 10)], carrier(2, 10), [promoted])

    assert wanted.start is None
    ((deployment, note),) = wanted.notes
    assert deployment == "payment-v1"
    assert note.reason == "OlderRevision"
    assert "canary start payment-v1" in note.sentence


def test_a_revision_that_was_rolled_back_is_not_tried_again(attempt: Any) -> None:
    failed = attempt(2, 11, Phase.ROLLED_BACK, pinned="hash2")

    assert intake([candidate(2, 10)], carrier(1, 0), [failed]).start is None


def test_the_next_template_of_a_rolled_back_deployment_starts(attempt: Any) -> None:
    failed = attempt(2, 11, Phase.ROLLED_BACK, pinned="hash2")

    wanted = intake([candidate(2, 20, "hash2b")], carrier(1, 0), [failed])

    assert wanted.start == candidate(2, 20, "hash2b")


def test_an_attempt_nobody_looked_at_yet_counts_for_its_revision(attempt: Any) -> None:
    for waiting in (attempt(2, 11), attempt(2, 11, name="my-release")):
        assert intake([candidate(2, 10)], carrier(1, 0), [waiting]).start is None


def test_of_two_candidates_the_newer_revision_starts() -> None:
    for order in itertools.permutations([candidate(2, 10), candidate(3, 20)]):
        assert intake(order, carrier(1, 0), []).start == candidate(3, 20)


def test_the_older_of_two_candidates_does_not_supersede_the_newer_one_on_the_way(attempt: Any) -> None:
    both = [candidate(2, 10), candidate(3, 20)]
    for phase in (Phase.PENDING, Phase.PROGRESSING, Phase.PROMOTING, Phase.ROLLING_BACK):
        running = attempt(3, 21, phase, pinned="" if phase is Phase.PENDING else "hash3")

        assert intake(both, carrier(1, 0), [running]).start is None

    ended = attempt(3, 21, Phase.ROLLED_BACK, pinned="hash3")
    assert intake(both, carrier(1, 0), [ended]).start == candidate(2, 10), "newer than stable, and never tried"


def test_a_newer_candidate_starts_while_an_older_attempt_is_on_the_way(attempt: Any) -> None:
    running = attempt(2, 11, Phase.PROGRESSING, pinned="hash2")

    assert intake([candidate(2, 10), candidate(3, 20)], carrier(1, 0), [running]).start == candidate(3, 20)


def test_without_a_known_carrier_a_candidate_gets_its_attempt_and_with_it_its_finding() -> None:
    assert intake([candidate(2, 10)], None, []).start == candidate(2, 10)


def test_equally_old_is_not_newer() -> None:
    assert intake([candidate(2, 0)], carrier(1, 0), []).start is None


def test_the_name_of_an_attempt_is_a_function_of_its_revision() -> None:
    document = attempt_document("shop", candidate(2, 10))

    assert document["metadata"] == {"name": "payment-v2-hash2-1", "namespace": "shop"}
    assert document["spec"]["target"] == "payment-v2"
    assert RolloutSpec.model_validate(document["spec"]).service == "payment"


def test_the_annotations_become_the_spec() -> None:
    asks = OptIn(
        policy="strict", service="payment", virtual_service="shop-routes", route="primary", release_id="build/77"
    )
    document = attempt_document("shop", Candidate("payment-v2", "hash2", made(10), asks, "payment"))
    spec = RolloutSpec.model_validate(document["spec"])

    assert (spec.policy_name, spec.virtual_service, spec.route) == ("strict", "shop-routes", "primary")
    assert spec.trigger.id == "build/77"


def test_the_revision_is_read_back_from_a_name_and_from_nothing_else(attempt: Any) -> None:
    names = {
        "payment-v2-6f5d9c-1": "6f5d9c",
        "payment-v2-6f5d9c-12": "6f5d9c",
        "payment-v2-6f5d9c": "",
        "payment-v2-6f5d9c-x": "",
        "my-release": "",
        "payment-v22-6f5d9c-1": "",
    }

    assert {name: revision_in(attempt(2, 0, name=name)) for name in names} == names


def test_nothing_unfinished_means_nobody_may_act(attempt: Any) -> None:
    assert active_of([attempt(2, 1, Phase.SUCCEEDED, pinned="hash2")]) == (None, {})


def test_at_one_revision_the_oldest_attempt_wins_and_the_others_are_superseded(attempt: Any) -> None:
    racers = [attempt(2, 10), attempt(2, 10, n=2), attempt(2, 12, n=3)]
    for seed in range(5):
        random.Random(seed).shuffle(racers)

        active, superseded = active_of(racers)

        assert active is not None
        assert active.name == "payment-v2-hash2-1"
        assert set(superseded) == {"payment-v2-hash2-2", "payment-v2-hash2-3"}
        assert all("payment-v2-hash2-1" in why for why in superseded.values())


def test_an_attempt_made_by_hand_for_the_running_revision_does_not_supersede_it(attempt: Any) -> None:
    running = attempt(2, 10, Phase.PROGRESSING, pinned="hash2")
    by_hand = attempt(2, 12, name="my-release")

    for revisions in ({"payment-v2": "hash2"}, {}):
        active, superseded = active_of([running, by_hand], revisions)

        assert active is running
        assert set(superseded) == {"my-release"}


def test_annotation_and_kubectl_create_race_into_the_same_attempt(attempt: Any) -> None:
    by_annotation, by_hand = attempt(2, 10), attempt(2, 10, name="z-by-hand")
    active, superseded = active_of([by_hand, by_annotation])
    assert active is by_annotation
    assert set(superseded) == {"z-by-hand"}

    by_hand, by_annotation = attempt(2, 10, name="z-by-hand"), attempt(2, 11)
    active, superseded = active_of([by_hand, by_annotation])
    assert active is by_hand
    assert set(superseded) == {by_annotation.name}


def test_an_attempt_made_by_hand_for_a_newer_template_takes_over(attempt: Any) -> None:
    running = attempt(2, 10, Phase.PROGRESSING, pinned="hash2")
    by_hand = attempt(2, 12, name="my-release")

    active, superseded = active_of([running, by_hand], {"payment-v2": "hash2b"})

    assert active is running, "it goes back first"
    assert set(superseded) == {running.name}


def test_a_newer_target_takes_over_and_the_older_keeps_the_right_to_go_back(attempt: Any) -> None:
    older, newer = attempt(2, 10, Phase.PROGRESSING, pinned="hash2"), attempt(3, 12)

    active, superseded = active_of([newer, older])
    assert active is older
    assert superseded == {older.name: f"CanaryRollout {newer.name}"}

    ended = attempt(2, 10, Phase.SUPERSEDED, pinned="hash2")
    assert active_of([newer, ended]) == (newer, {})


def test_of_three_targets_only_the_newest_is_left(attempt: Any) -> None:
    attempts = [attempt(2, 10), attempt(3, 11), attempt(4, 12)]

    active, superseded = active_of(attempts)

    assert active is attempts[0]
    assert set(superseded) == {attempts[0].name, attempts[1].name}
    assert set(superseded.values()) == {f"CanaryRollout {attempts[2].name}"}


def test_never_are_all_attempts_superseded(attempt: Any) -> None:
    phases = [Phase.PENDING, Phase.CHECKING, Phase.PROGRESSING, Phase.ROLLING_BACK, Phase.FAILED]
    for seed in range(300):
        chance = random.Random(seed)
        attempts = [
            attempt(version := chance.randint(2, 4), chance.randint(0, 3), chance.choice(phases), n=number, pinned=pin)
            for number in range(chance.randint(1, 6))
            if (pin := chance.choice(["", "hashA", "hashB"])) is not None
        ]
        unfinished = [entry for entry in attempts if not entry.status.phase.is_terminal]

        active, superseded = active_of(attempts)

        assert (active is None) == (not unfinished)
        assert set(superseded) <= {entry.name for entry in unfinished}
        assert len(superseded) < max(1, len({entry.name for entry in unfinished})) or not unfinished
        assert version


def test_the_attempts_at_a_revision_are_listed_oldest_first(attempt: Any) -> None:
    first = attempt(2, 10, Phase.ROLLED_BACK, pinned="hash2")
    second = attempt(2, 30, Phase.PROGRESSING, pinned="hash2", n=2)
    other = attempt(2, 20, Phase.ROLLED_BACK, pinned="hash2b")

    assert attempts_at([second, other, first], "payment-v2", "hash2") == [first, second]
